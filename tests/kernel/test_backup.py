"""The commands of the guide make a backup and bring everything back from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlmodel import delete, select

from guides import block
from raymill.kernel.events import OutboxEvent
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration


def run(words: str, *, home: Path) -> None:
    """Run the guide's block with these words, but for the commands that start and stop a platform."""
    script = "\n".join(line for line in block("recover", words).splitlines() if not line.startswith("raymill "))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "RAYMILL_HOME": str(home)}
    done = subprocess.run(["bash", "-euc", script], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def kinds(resources: Resources) -> list[str]:
    with resources.database.session() as session:
        return list(session.exec(select(OutboxEvent.kind)))


def test_what_was_backed_up_comes_back(resources: Resources, database_url: str, tmp_path: Path) -> None:
    url = resources.settings.database.url
    assert url
    urls = {"url": url.get_secret_value(), "admin_url": database_url}
    (tmp_path / "config.json").write_text(json.dumps({"database": urls}))
    with resources.database.session() as session:
        session.add(OutboxEvent(id="evt_1", kind="kept", body={}))
    resources.store.put_document("a/b", b"kept")
    run("pg_dump", home=tmp_path)
    with resources.database.session() as session:
        session.execute(delete(OutboxEvent))
        session.add(OutboxEvent(id="evt_2", kind="later", body={}))
    resources.store.delete("a/b")
    run("pg_restore", home=tmp_path)
    assert kinds(resources) == ["kept"]
    assert resources.store.get_document("a/b") == b"kept"
