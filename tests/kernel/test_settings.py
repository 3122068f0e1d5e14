"""Where settings come from, and which are refused."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from raymill.kernel.settings import HttpSettings, Settings, environment_names, given


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def write(path: Path, **content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_defaults(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.home == tmp_path / ".raymill"
    assert settings.storage_url == f"file://{tmp_path}/.raymill/objects"
    assert settings.keys_dir == settings.home / "keys"
    assert settings.http.base_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(("given", "found"), [("/run/keys", "/run/keys"), ("k", "HOME/k"), ("~/k", "USER/k")])
def test_the_keys_may_lie_elsewhere(tmp_path: Path, given: str, found: str) -> None:
    expected = found.replace("HOME", str(tmp_path / "home")).replace("USER", str(tmp_path))
    assert Settings(home=tmp_path / "home", keys_dir=Path(given)).keys_dir == Path(expected)


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = write(tmp_path / "secrets.json", http={"port": 1111, "grpc_port": 2222}, log={"level": "ERROR"})
    monkeypatch.setenv("RAYMILL_CONFIG_FILE", str(file))
    monkeypatch.setenv("RAYMILL_HTTP__PORT", "3333")
    settings = Settings()
    assert (settings.http.port, settings.http.grpc_port, settings.log.level) == (3333, 2222, "ERROR")
    assert settings.http.host == "127.0.0.1"
    assert Settings(http=HttpSettings(port=4444)).http.port == 4444


@pytest.mark.parametrize("by_environment", [True, False])
def test_a_file_in_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_environment: bool) -> None:
    home = tmp_path / "elsewhere"
    write(home / "config.json", database={"url": "postgresql://user:hidden@host/db"})
    if by_environment:
        monkeypatch.setenv("RAYMILL_HOME", str(home))
    settings = Settings() if by_environment else Settings(home=home)
    assert settings.home == home
    assert settings.database.url == SecretStr("postgresql://user:hidden@host/db")
    assert "hidden" not in repr(settings)


def test_a_named_file_replaces_the_one_in_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / ".raymill" / "config.json", http={"port": 1111})
    monkeypatch.setenv("RAYMILL_CONFIG_FILE", str(write(tmp_path / "other.json", http={"grpc_port": 2222})))
    assert (Settings().http.port, Settings().http.grpc_port) == (8000, 2222)


def test_what_is_not_a_setting_is_refused_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / ".raymill" / "config.json", htpp={"port": 1})
    with pytest.raises(ValidationError, match="htpp"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAYMILL_HTTP__PORT", "eighty"),
        ("RAYMILL_AUTH__MIN_PASSWORD_LENGTH", "3"),
        ("RAYMILL_PROFILE", "staging"),
        ("RAYMILL_LOG__LEVEL", "CHATTY"),
    ],
)
def test_wrong_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_every_setting_has_an_environment_name_and_a_description() -> None:
    names = environment_names()
    assert {"RAYMILL_HOME", "RAYMILL_DATABASE__URL", "RAYMILL_REDIS__URL", "RAYMILL_STORAGE__URL"} <= set(names)
    assert all(names.values())


def test_the_public_url_has_no_trailing_slash() -> None:
    assert HttpSettings(public_url="https://ai.example.com/").base_url == "https://ai.example.com"


def test_what_was_given_is_kept_as_json_and_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    corp = {
        "issuer": "https://sso.example.com",
        "client_id": "raymill",
        "client_secret": "hidden",
        "roles": {"a": "admin"},
    }
    monkeypatch.setenv("RAYMILL_AUTH__SSO", json.dumps({"corp": corp}))
    monkeypatch.setenv("RAYMILL_REDIS__URL", "redis://:hidden@host")
    document = given(Settings())
    assert document["auth"] == {"sso": {"corp": corp}}
    assert document["redis"] == {"url": "redis://:hidden@host"}
    monkeypatch.delenv("RAYMILL_AUTH__SSO")
    monkeypatch.setenv("RAYMILL_CONFIG_FILE", str(write(tmp_path / "kept.json", **document)))
    again = Settings().auth.sso["corp"]
    assert (again.client_secret, again.roles) == (SecretStr("hidden"), {"a": "admin"})
    assert "hidden" not in repr(again)
