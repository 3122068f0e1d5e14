"""API keys below HTTP: life, grants and the keys that jobs hold."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import col, select

from factories import Tenant
from raymill.auth import keys
from raymill.auth.errors import ExpiryPassed, InvalidApiKey, KeyNotFound
from raymill.auth.events import ApiKeyChanged
from raymill.auth.models import ApiKey
from raymill.auth.permissions import JOB_PERMISSIONS, Permission
from raymill.kernel.clock import utc_now
from raymill.kernel.resources import Resources
from raymill.kernel.security import hash_secret

pytestmark = pytest.mark.integration


def make_job_key(resources: Resources, tenant: Tenant, job_id: str = "job_1") -> tuple[str, str]:
    with resources.session() as session:
        key, secret = keys.create_key(
            session,
            name=job_id,
            project_id=tenant.project_id,
            permissions=sorted(JOB_PERMISSIONS),
            created_by=tenant.user_id,
            job_id=job_id,
        )
        return key.id, secret


def test_a_job_key_holds_the_rights_of_a_job_until_the_job_ends(resources: Resources, alice: Tenant) -> None:
    _, secret = make_job_key(resources, alice)
    with resources.session() as session:
        principal = keys.principal_of(session, secret)
        assert (principal.kind, principal.job_id, principal.user_id) == ("job", "job_1", alice.user_id)
        assert principal.permissions == JOB_PERMISSIONS
        keys.revoke_job_keys(session, "job_1")
    with resources.session() as session, pytest.raises(InvalidApiKey):
        keys.principal_of(session, secret)


def test_the_end_of_one_job_leaves_the_keys_of_others(resources: Resources, alice: Tenant) -> None:
    make_job_key(resources, alice)
    _, other = make_job_key(resources, alice, "job_2")
    with resources.session() as session:
        keys.revoke_job_keys(session, "job_1")
    with resources.session() as session:
        assert keys.principal_of(session, other).job_id == "job_2"


def test_a_job_key_reaches_only_what_its_permissions_name(
    resources: Resources, client: TestClient, alice: Tenant
) -> None:
    _, secret = make_job_key(resources, alice)
    headers = {"X-API-Key": secret}
    refused = client.get(f"/api/v1/projects/{alice.project_id}", headers=headers)
    assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "project:read"})
    assert client.get("/api/v1/projects", headers=headers).json()["items"] == []
    body = {"name": "more", "project_id": alice.project_id, "permissions": ["*"]}
    assert client.post("/api/v1/api-keys", headers=headers, json=body).status_code == 403


def test_people_neither_see_nor_revoke_the_key_of_a_job(resources: Resources, alice: Tenant) -> None:
    key_id, secret = make_job_key(resources, alice)
    assert alice.get("/api-keys").json()["items"] == []
    assert alice.delete(f"/api-keys/{key_id}").status_code == 404
    with resources.session() as session:
        assert keys.principal_of(session, secret).id == key_id
        with pytest.raises(KeyNotFound):
            keys.get_key(session, key_id)


def test_an_expired_key_is_refused_and_granted_nothing(resources: Resources, alice: Tenant) -> None:
    with resources.session() as session:
        _, secret = keys.create_key(
            session,
            name="short",
            project_id=alice.project_id,
            permissions=["*"],
            created_by=alice.user_id,
            expires_at=utc_now() + timedelta(hours=1),
        )
    with resources.session() as session:
        assert len(keys.active_keys(session, alice.project_id)) == 1
        session.execute(update(ApiKey).values(expires_at=utc_now() - timedelta(seconds=1)))
    with resources.session() as session:
        assert keys.active_keys(session, alice.project_id) == []
        with pytest.raises(InvalidApiKey):
            keys.principal_of(session, secret)


def test_a_key_cannot_be_born_dead(resources: Resources, alice: Tenant) -> None:
    with resources.session() as session, pytest.raises(ExpiryPassed):
        keys.create_key(
            session,
            name="late",
            project_id=alice.project_id,
            permissions=["*"],
            created_by=alice.user_id,
            expires_at=utc_now(),
        )


def test_grants_carry_hash_and_rights_and_never_the_secret(resources: Resources, alice: Tenant) -> None:
    body = {"name": "narrow", "project_id": alice.project_id, "permissions": ["endpoint:invoke"]}
    narrow = alice.post("/api-keys", json=body).json()
    alice.post("/api-keys", json=body | {"name": "wide", "permissions": ["*"]})
    with resources.session() as session:
        first, second = keys.active_keys(session, alice.project_id)
        stored = session.exec(select(ApiKey).where(col(ApiKey.id) == narrow["id"])).one()
    assert first.secret_sha256 == hash_secret(narrow["key"])
    assert (first.permissions, second.permissions) == (frozenset({Permission.ENDPOINT_INVOKE}), None)
    assert first.created_by == alice.user_id
    assert narrow["key"] not in stored.model_dump_json()


def test_making_and_ending_a_key_are_events(resources: Resources, alice: Tenant) -> None:
    seen: list[ApiKeyChanged] = []
    resources.events.subscribe(ApiKeyChanged, seen.append)
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}
    made = alice.post("/api-keys", json=body).json()
    alice.delete(f"/api-keys/{made['id']}")
    assert seen == [ApiKeyChanged(project_id=alice.project_id)] * 2
