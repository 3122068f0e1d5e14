"""API keys over HTTP: one endpoint, rotation, last use; and the service accounts that they stand for."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import col

from factories import Tenant, make_key
from raymill.auth import keys
from raymill.auth.events import ApiKeyUsed
from raymill.auth.models import ApiKey
from raymill.kernel.clock import utc_now
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration


def status(client: TestClient, key: str, path: str = "/projects") -> int:
    return client.get(f"/api/v1{path}", headers={"X-API-Key": key}).status_code


def make_account(tenant: Tenant, name: str = "robot", **more: Any) -> dict[str, Any]:
    answer = tenant.post(f"/projects/{tenant.project_id}/service-accounts", json={"name": name} | more)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_key_of_one_endpoint_can_call_it_and_nothing_else(
    resources: Resources, client: TestClient, alice: Tenant
) -> None:
    made = make_key(alice, permissions=["endpoint:invoke"], endpoint="alice-project.digits.staging")
    assert made["endpoint"] == "alice-project.digits.staging"
    with resources.session() as session:
        [grant] = keys.active_keys(session, alice.project_id)
    assert grant.endpoint == "alice-project.digits.staging"
    assert status(client, made["key"], f"/projects/{alice.project_id}") == 403


def test_a_key_of_an_endpoint_that_makes_no_sense_is_refused(alice: Tenant) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["endpoint:invoke"]}
    for changes in (
        {"endpoint": "bob-project.digits"},
        {"endpoint": "digits"},
        {"endpoint": "alice-project.Digits!"},
        {"endpoint": ""},
        {"endpoint": "alice-project.digits", "permissions": ["*"]},
        {"endpoint": "alice-project.digits", "permissions": ["endpoint:invoke", "model:read"]},
    ):
        assert alice.post("/api-keys", json=body | changes).status_code == 422, changes


def test_both_keys_work_until_the_overlap_is_over(resources: Resources, client: TestClient, alice: Tenant) -> None:
    old = make_key(alice, permissions=["project:read"])
    answer = alice.post(f"/api-keys/{old['id']}/rotate", json={"overlap_s": 60})
    new = answer.json()
    assert (answer.status_code, new["permissions"], new["name"]) == (201, old["permissions"], "ci")
    assert (status(client, old["key"]), status(client, new["key"])) == (200, 200)
    with resources.session() as session:
        row = keys.get_key(session, old["id"])
        assert row.expires_at is not None
        assert 0 < (row.expires_at - utc_now()).total_seconds() <= 60
        moved = {"expires_at": utc_now() - timedelta(seconds=1)}
        session.execute(update(ApiKey).where(col(ApiKey.id) == old["id"]).values(moved))
    assert (status(client, old["key"]), status(client, new["key"])) == (401, 200)
    assert alice.post(f"/api-keys/{old['id']}/rotate", json={}).status_code == 401


def test_without_overlap_the_old_key_dies_at_once(client: TestClient, alice: Tenant) -> None:
    old = make_key(alice)
    new = alice.post(f"/api-keys/{old['id']}/rotate", json={"overlap_s": 0}).json()
    assert (status(client, old["key"]), status(client, new["key"])) == (401, 200)


def test_an_overlap_never_lengthens_a_life(alice: Tenant) -> None:
    end = utc_now() + timedelta(seconds=30)
    old = make_key(alice, expires_at=end.isoformat())
    new = alice.post(f"/api-keys/{old['id']}/rotate", json={"overlap_s": 3600}).json()
    assert new["expires_at"] == alice.get(f"/api-keys/{old['id']}").json()["expires_at"] == old["expires_at"]


def test_rotation_is_no_ladder_to_more_rights(alice: Tenant, bob: Tenant) -> None:
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "developer"})
    wide = make_key(alice)
    refused = bob.post(f"/api-keys/{wide['id']}/rotate", json={})
    assert refused.status_code == 403
    assert "project:admin" in refused.json()["details"]["permissions"]
    narrow = make_key(alice, permissions=["model:read"])
    assert bob.post(f"/api-keys/{narrow['id']}/rotate", json={}).status_code == 201


def test_a_stranger_cannot_rotate(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    path = f"/api-keys/{make_key(alice)['id']}/rotate"
    assert bob.post(path, json={}).status_code == 404
    assert client.post(f"/api/v1{path}", json={}).status_code == 401


def test_the_last_use_is_written_once_a_minute(resources: Resources, client: TestClient, alice: Tenant) -> None:
    seen: list[ApiKeyUsed] = []
    resources.events.subscribe(ApiKeyUsed, seen.append)
    made = make_key(alice)
    assert alice.get(f"/api-keys/{made['id']}").json()["last_used_at"] is None
    for _ in range(3):
        assert status(client, made["key"]) == 200
    assert seen == [ApiKeyUsed(key_id=made["id"])]
    first = alice.get(f"/api-keys/{made['id']}").json()["last_used_at"]
    with resources.session() as session:
        session.execute(update(ApiKey).values(last_used_at=utc_now() - timedelta(seconds=61)))
    assert status(client, made["key"]) == 200
    assert alice.get(f"/api-keys/{made['id']}").json()["last_used_at"] > first


def test_a_service_account_acts_by_its_keys_with_its_role(client: TestClient, alice: Tenant) -> None:
    robot = make_account(alice, role="developer")
    key = make_key(alice, service_account_id=robot["id"])
    assert key["created_by"] == robot["id"]
    who = client.get("/api/v1/auth/whoami", headers={"X-API-Key": key["key"]}).json()
    assert (who["kind"], who["user_id"]) == ("key", robot["id"])
    [rights] = who["projects"]
    assert "model:write" in rights["permissions"]
    assert "project:admin" not in rights["permissions"]
    alice.put(f"/projects/{alice.project_id}/members/{robot['id']}", json={"role": "viewer"})
    [rights] = client.get("/api/v1/auth/whoami", headers={"X-API-Key": key["key"]}).json()["projects"]
    assert "model:write" not in rights["permissions"]


def test_a_key_for_a_service_account_outlives_its_maker_and_ends_with_the_account(
    client: TestClient, admin: Tenant, alice: Tenant
) -> None:
    robot = make_account(alice)
    key = make_key(alice, service_account_id=robot["id"], permissions=["project:read"])
    assert admin.post(f"/users/{alice.user_id}/disable").status_code == 200
    assert status(client, key["key"]) == 200
    assert admin.delete(f"/projects/{alice.project_id}/service-accounts/{robot['id']}").status_code == 204
    assert status(client, key["key"]) == 401


def test_nobody_gives_a_service_account_more_than_they_hold(alice: Tenant, bob: Tenant) -> None:
    robot = make_account(alice, role="viewer")
    body = {"name": "ci", "project_id": alice.project_id, "service_account_id": robot["id"]}
    refused = alice.post("/api-keys", json=body | {"permissions": ["model:write"]})
    assert (refused.status_code, refused.json()["details"]) == (403, {"permissions": ["model:write"]})
    alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "developer"})
    assert bob.post(f"/projects/{alice.project_id}/service-accounts", json={"name": "x"}).status_code == 403
    assert bob.post("/api-keys", json=body | {"permissions": ["*"]}).status_code == 201


def test_a_service_account_belongs_to_one_project(alice: Tenant, bob: Tenant) -> None:
    robot = make_account(alice)
    body = {"name": "ci", "permissions": ["*"], "project_id": bob.project_id, "service_account_id": robot["id"]}
    assert bob.post("/api-keys", json=body).status_code == 404
    assert bob.delete(f"/projects/{bob.project_id}/service-accounts/{robot['id']}").status_code == 404
    assert bob.get(f"/projects/{alice.project_id}/service-accounts").status_code == 404
    assert bob.get(f"/projects/{bob.project_id}/service-accounts").json()["items"] == []


def test_service_accounts_are_listed_and_their_names_unique(alice: Tenant, bob: Tenant) -> None:
    robot = make_account(alice)
    again = alice.post(f"/projects/{alice.project_id}/service-accounts", json={"name": "robot"})
    assert again.status_code == 409
    make_account(bob)
    assert alice.get(f"/projects/{alice.project_id}/service-accounts").json()["items"] == [robot]
    assert alice.delete(f"/projects/{alice.project_id}/service-accounts/{robot['id']}").status_code == 204
    assert alice.get(f"/projects/{alice.project_id}/service-accounts").json()["items"] == []
    members = alice.get(f"/projects/{alice.project_id}/members").json()["items"]
    assert [member["user_id"] for member in members] == [alice.user_id]
    make_account(alice)


def test_nobody_logs_in_as_a_service_account(client: TestClient, admin: Tenant) -> None:
    robot = make_account(admin)
    login = {"email": robot["email"], "password": ""}
    assert client.post("/api/v1/auth/login", json=login).status_code == 401
    body = {"email": "other@bob-project.service.invalid", "name": "R", "password": "violet otters swim"}
    assert client.post("/api/v1/auth/register", json=body).status_code == 422
    assert admin.put(f"/users/{robot['id']}/role", json={"role": "admin"}).status_code == 409
