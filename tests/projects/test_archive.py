"""Settings of projects, and what an archived one still does."""

import pytest
from fastapi.testclient import TestClient

from factories import Tenant
from raymill.auth.permissions import Permission
from raymill.auth.schemas import Principal
from raymill.kernel.resources import Resources
from raymill.projects import service

pytestmark = pytest.mark.integration


def test_settings_have_a_schema(alice: Tenant) -> None:
    where = f"/projects/{alice.project_id}"
    assert alice.get(where).json()["settings"] == {"job_restart": {"on_loss": "fail", "max_restarts": 3}}
    given = {"job_restart": {"on_loss": "resume", "max_restarts": 1}}
    assert alice.patch(where, json={"settings": given}).json()["settings"] == given
    assert alice.patch(where, json={"description": "kept"}).json()["settings"] == given
    for wrong in ({"job_restart": {"on_loss": "explode"}}, {"unknown": 1}):
        assert alice.patch(where, json={"settings": wrong}).status_code == 422
    made = alice.post("/projects", json={"name": "set", "settings": given})
    assert made.json()["settings"] == given


def test_an_archived_project_is_read_and_not_changed(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    where = f"/projects/{alice.project_id}"
    key = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    assert alice.post(f"{where}/archive").json()["archived_at"] is not None
    assert alice.get(where).json()["archived_at"] is not None
    dataset = {"project_id": alice.project_id, "name": "digits"}
    refused = alice.post("/datasets", json=dataset)
    assert (refused.status_code, refused.json()["type"]) == (409, "RESOURCE_CONFLICT")
    assert "restore" in refused.json()["message"]
    by_key = client.post("/api/v1/datasets", json=dataset, headers={"X-API-Key": key["key"]})
    assert by_key.status_code == 409
    assert alice.patch(where, json={"description": "x"}).status_code == 409
    assert alice.get("/datasets", params={"project_id": alice.project_id}).status_code == 200
    # Who may enter can still be decided.
    assert alice.put(f"{where}/members/{bob.user_id}", json={"role": "viewer"}).status_code == 200
    assert alice.delete(f"/api-keys/{key['id']}").status_code == 204
    assert bob.post("/datasets", json=dataset).status_code == 403
    assert alice.post(f"{where}/restore").json()["archived_at"] is None
    assert alice.post("/datasets", json=dataset).status_code == 201


def test_a_running_job_of_an_archived_project_may_finish(resources: Resources, alice: Tenant) -> None:
    alice.post(f"/projects/{alice.project_id}/archive")
    job = Principal(
        id="key_1",
        kind="job",
        user_id=alice.user_id,
        global_role="developer",  # type: ignore[arg-type]
        project_id=alice.project_id,
        job_id="job_1",
        permissions=frozenset({Permission.MODEL_WRITE}),
    )
    with resources.session() as session:
        assert service.authorize(session, job, alice.project_id, Permission.MODEL_WRITE).archived_at is not None


@pytest.mark.parametrize("action", ["archive", "restore"])
def test_only_an_owner_archives(client: TestClient, alice: Tenant, bob: Tenant, action: str) -> None:
    where = f"/projects/{alice.project_id}"
    assert client.post(f"/api/v1{where}/{action}").status_code == 401
    assert bob.post(f"{where}/{action}").status_code == 404
    alice.put(f"{where}/members/{bob.user_id}", json={"role": "developer"})
    assert bob.post(f"{where}/{action}").status_code == 403


def test_an_empty_archived_project_is_deleted(alice: Tenant) -> None:
    alice.post(f"/projects/{alice.project_id}/archive")
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204
