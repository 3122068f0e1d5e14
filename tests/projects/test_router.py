"""Projects, members and API keys over HTTP."""

import pytest
from fastapi.testclient import TestClient

from factories import Tenant

pytestmark = pytest.mark.integration


def test_creator_sees_the_project_and_a_stranger_does_not(alice: Tenant, bob: Tenant) -> None:
    assert alice.get(f"/projects/{alice.project_id}").json()["name"] == "alice-project"
    assert bob.get(f"/projects/{alice.project_id}").status_code == 404
    assert [project["id"] for project in bob.get("/projects").json()["items"]] == [bob.project_id]


@pytest.mark.parametrize("name", ["", "Upper", "-dash", "dot.ted", "x" * 41])
def test_bad_names_are_refused(alice: Tenant, name: str) -> None:
    answer = alice.post("/projects", json={"name": name})
    assert (answer.status_code, answer.json()["type"]) == (422, "VALIDATION_ERROR")


def test_names_are_unique_on_the_platform(alice: Tenant, bob: Tenant) -> None:
    assert bob.post("/projects", json={"name": "alice-project"}).status_code == 409


def test_the_same_idempotency_key_makes_one_project(alice: Tenant) -> None:
    key = {"Idempotency-Key": "k1"}
    first = alice.post("/projects", json={"name": "once"}, headers=key)
    second = alice.post("/projects", json={"name": "once"}, headers=key)
    other = alice.post("/projects", json={"name": "twice"}, headers=key)
    assert first.json() == second.json()
    assert other.status_code == 409


def test_update_and_delete(alice: Tenant) -> None:
    changed = alice.patch(f"/projects/{alice.project_id}", json={"description": "digits"})
    assert changed.json()["description"] == "digits"
    assert alice.patch(f"/projects/{alice.project_id}", json={"name": "other"}).status_code == 422
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204
    assert alice.get(f"/projects/{alice.project_id}").status_code == 404


def test_a_viewer_may_read_and_not_administer(alice: Tenant, bob: Tenant) -> None:
    members = f"/projects/{alice.project_id}/members"
    assert alice.put(f"{members}/{bob.user_id}", json={"role": "viewer"}).status_code == 200
    assert bob.get(f"/projects/{alice.project_id}").status_code == 200
    refused = bob.delete(f"/projects/{alice.project_id}")
    assert refused.status_code == 403
    assert refused.json()["details"] == {"permission": "project:admin"}


def test_the_last_owner_stays(alice: Tenant, bob: Tenant) -> None:
    members = f"/projects/{alice.project_id}/members"
    assert alice.delete(f"{members}/{alice.user_id}").status_code == 409
    assert alice.put(f"{members}/{alice.user_id}", json={"role": "viewer"}).status_code == 409
    alice.put(f"{members}/{bob.user_id}", json={"role": "owner"})
    assert alice.delete(f"{members}/{alice.user_id}").status_code == 204


def test_an_unknown_member_is_not_found(alice: Tenant) -> None:
    answer = alice.put(f"/projects/{alice.project_id}/members/usr_nobody", json={"role": "viewer"})
    assert answer.status_code == 404


def test_key_shows_its_secret_once_and_works_until_revoked(client: TestClient, alice: Tenant) -> None:
    made = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    assert made["key"].startswith("rm_")
    assert "key" not in alice.get(f"/api-keys/{made['id']}").json()
    headers = {"X-API-Key": made["key"]}
    assert client.get(f"/api/v1/projects/{alice.project_id}", headers=headers).status_code == 200
    assert alice.delete(f"/api-keys/{made['id']}").status_code == 204
    assert client.get(f"/api/v1/projects/{alice.project_id}", headers=headers).status_code == 401


def test_key_is_bound_to_its_project_and_permissions(client: TestClient, alice: Tenant) -> None:
    other = alice.post("/projects", json={"name": "other"}).json()["id"]
    body = {"name": "narrow", "project_id": alice.project_id, "permissions": ["model:read"]}
    headers = {"Authorization": f"Bearer {alice.post('/api-keys', json=body).json()['key']}"}
    assert client.get(f"/api/v1/projects/{other}", headers=headers).status_code == 404
    refused = client.get(f"/api/v1/projects/{alice.project_id}", headers=headers)
    assert refused.json()["details"] == {"permission": "project:read"}


def test_a_key_cannot_hold_more_than_its_maker(alice: Tenant, bob: Tenant) -> None:
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "developer"})
    body = {"name": "n", "project_id": alice.project_id, "permissions": ["project:admin"]}
    assert bob.post("/api-keys", json=body).status_code == 403


def test_keys_of_another_tenant_are_not_found(alice: Tenant, bob: Tenant) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}
    made = alice.post("/api-keys", json=body).json()
    assert bob.get(f"/api-keys/{made['id']}").status_code == 404
    assert bob.delete(f"/api-keys/{made['id']}").status_code == 404
    assert bob.post("/api-keys", json=body).status_code == 404
    assert bob.get("/api-keys").json()["items"] == []


def test_lists_page_newest_first(alice: Tenant) -> None:
    made = [alice.post("/projects", json={"name": f"p{n}"}).json()["id"] for n in range(4)]
    page = alice.get("/projects", params={"limit": 3}).json()
    rest = alice.get("/projects", params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == [*reversed(made), alice.project_id]
    assert rest["next_cursor"] is None
