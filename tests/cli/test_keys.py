"""`raymill keys` makes and rotates the signing keys."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from raymill.cli.keys import app
from raymill.kernel.keyfiles import watch_public_keys


def test_keys_are_made_and_rotated_in_a_folder(tmp_path: Path) -> None:
    folder, runner = tmp_path / "keys", CliRunner()
    assert runner.invoke(app, ["rotate", str(folder)]).exit_code != 0
    assert runner.invoke(app, ["make", str(folder)]).exit_code == 0
    [first] = watch_public_keys(folder).get()
    answer = runner.invoke(app, ["rotate", str(folder)])
    second, previous = watch_public_keys(folder).get()
    assert second in answer.output
    assert previous == first != second


def test_without_a_folder_the_platform_s_own_keys_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMILL_HOME", str(tmp_path))
    CliRunner().invoke(app, ["make", str(tmp_path / "keys")])
    assert CliRunner().invoke(app, ["rotate"]).exit_code == 0
    assert len(watch_public_keys(tmp_path / "keys").get()) == 2
