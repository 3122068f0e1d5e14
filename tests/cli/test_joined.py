from pathlib import Path

import pytest
from pydantic import SecretStr

from raymill.cli.joined import joined
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.kernel.settings import RaySettings, Settings

ELSEWHERE = "http://head:8265"


def test_our_own_head_is_not_another_cluster(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for own in (EmbeddedRay(settings).gcs_address, "http://127.0.0.1:8265/"):
        assert joined(settings, own, None, "token") == settings


def test_the_cluster_and_its_token_are_taken_from_rays_variables(tmp_path: Path) -> None:
    found = joined(Settings(home=tmp_path), ELSEWHERE, Path("/run/token"), "token").ray
    assert (found.address, found.token, found.token_file) == (ELSEWHERE, SecretStr("token"), Path("/run/token"))


def test_rays_own_token_file_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert joined(Settings(home=tmp_path), ELSEWHERE, None, None).ray.token_file is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    assert joined(Settings(home=tmp_path), ELSEWHERE, None, None).ray.token_file == tmp_path / ".ray" / "auth_token"


def test_the_settings_come_first(tmp_path: Path) -> None:
    ray = RaySettings(address="10.0.0.1:6379", token=SecretStr("ours"), token_file=Path("/ours"))
    assert joined(Settings(home=tmp_path, ray=ray), ELSEWHERE, Path("/other"), "other").ray == ray
