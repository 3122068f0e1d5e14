"""What a project holds, at a glance."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from factories import Tenant
from model_makers import add_version
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration

PARTS = ("models", "datasets", "experiments", "deployments")


@contextmanager
def counted(resources: Resources) -> Iterator[list[str]]:
    """Note the statements that the control plane sends."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(resources.database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(resources.database.engine, "before_cursor_execute", note)


def test_a_new_project_holds_nothing(alice: Tenant) -> None:
    project = alice.get(f"/projects/{alice.project_id}").json()
    assert [project[part] for part in PARTS] == [{"count": 0, "latest": []}] * 4
    assert project["teams"] == []


def test_counts_and_the_newest_of_everything(resources: Resources, alice: Tenant, bob: Tenant, tmp_path: Path) -> None:
    mine, where = {"project_id": alice.project_id}, f"/projects/{alice.project_id}"
    for n in range(7):
        assert alice.post("/datasets", json=mine | {"name": f"table-{n}"}).status_code == 201
    assert alice.post("/experiments", json=mine | {"name": "why"}).status_code == 201
    add_version(resources, alice, tmp_path, content=b"version 1")
    deployed = alice.post("/deployments", json=mine | {"name": "reader", "model": "digits"})
    assert deployed.status_code in (201, 202), deployed.text
    with counted(resources) as sent:
        project = alice.get(where).json()
    assert [project[part]["count"] for part in PARTS] == [1, 7, 1, 1]
    assert [one["name"] for one in project["datasets"]["latest"]] == [f"table-{n}" for n in (6, 5, 4, 3, 2)]
    assert project["deployments"]["latest"][0]["id"] == deployed.json()["id"]
    assert len(sent) <= 12, sent
    assert bob.get(f"/projects/{bob.project_id}").json()["datasets"]["count"] == 0
    refused = alice.delete(where)
    assert (refused.status_code, refused.json()["type"]) == (409, "RESOURCE_CONFLICT")


def test_what_a_key_may_not_read_is_null(client: TestClient, alice: Tenant) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["project:read", "model:read"]}
    headers = {"X-API-Key": alice.post("/api-keys", json=body).json()["key"]}
    project = client.get(f"/api/v1/projects/{alice.project_id}", headers=headers).json()
    assert [project[part] is None for part in PARTS] == [False, True, True, True]
