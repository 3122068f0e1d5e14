"""The audit log as its owner reads it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from factories import PASSWORD
from raymill.cli.main import app
from raymill.sdk import Client, credentials

pytestmark = pytest.mark.integration


def test_owners_read_what_was_done(platform_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(platform_url) as stranger:
        login = stranger.auth.register(email="ann@example.com", name="Ann", password=PASSWORD)
    credentials.save(tmp_path, platform_url, login.access_token, login.refresh_token)
    monkeypatch.setenv("RAYMILL_HOME", str(tmp_path))
    with Client(platform_url, login.access_token) as client:
        project = client.projects.create("readers")
        client.datasets.create(project_id=project.id, name="table")
        assert next(client.audit.list(object_type="dataset")).object_name == "table"
    shown = CliRunner().invoke(app, ["audit", "--project", "readers", "--action", "create_dataset"], terminal_width=240)
    assert shown.exit_code == 0, shown.output
    assert "create_dataset created" in shown.stdout
    assert "ann@example.com" in shown.stdout
    lines = CliRunner().invoke(app, ["audit", "--limit", "1", "--json"]).stdout.splitlines()
    # The platform of this test writes its log to the same place.
    [entry] = [json.loads(line) for line in lines if line.startswith("{")]
    assert entry["object_type"] == "dataset"
