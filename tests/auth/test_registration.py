"""Who may make an account: settings, domains and invitations."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import select

from factories import PASSWORD, Tenant
from raymill.auth.models import Invitation
from raymill.kernel.clock import utc_now
from raymill.kernel.resources import Resources

from .conftest import set_auth

pytestmark = pytest.mark.integration


def register(client: TestClient, email: str, **more: Any) -> httpx.Response:
    return client.post("/api/v1/auth/register", json={"email": email, "name": "N", "password": PASSWORD} | more)


def invite(admin: Tenant, email: str = "dora@example.com", **more: Any) -> dict[str, Any]:
    answer = admin.post("/users/invitations", json={"email": email} | more)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_closed_registration_lets_nobody_in(app: FastAPI, client: TestClient, admin: Tenant) -> None:
    token = invite(admin)["token"]
    set_auth(app, registration="closed")
    for more in ({}, {"invitation": token}):
        refused = register(client, "dora@example.com", **more)
        assert (refused.status_code, refused.json()["type"]) == (403, "AUTHORIZATION_ERROR")


def test_only_the_named_domains_may_register(app: FastAPI, client: TestClient) -> None:
    set_auth(app, registration_domains=("Example.com",))
    refused = register(client, "eve@example.com.evil.org")
    assert refused.status_code == 403
    assert "example.com" in refused.json()["message"]
    assert register(client, "dora@EXAMPLE.com").status_code == 201


def test_an_invitation_opens_a_closed_circle_once_and_gives_its_role(
    app: FastAPI, client: TestClient, admin: Tenant
) -> None:
    set_auth(app, registration="invitation", registration_domains=("corp.example",))
    assert register(client, "dora@example.com").status_code == 403
    made = invite(admin, role="viewer")
    assert register(client, "eve@example.com", invitation=made["token"]).status_code == 403
    assert register(client, "dora@example.com", invitation=made["token"], password="short").status_code == 422
    welcome = register(client, "Dora@example.com", invitation=made["token"])
    assert (welcome.status_code, welcome.json()["user"]["role"]) == (201, "viewer")
    assert register(client, "dora@example.com", invitation=made["token"]).status_code == 403
    assert admin.get("/users/invitations").json()["items"] == []


def test_parallel_uses_of_one_invitation_make_one_account(client: TestClient, admin: Tenant) -> None:
    token = invite(admin)["token"]
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda _: register(client, "dora@example.com", invitation=token).status_code, range(6))
        assert sorted(answers) == [201] + [403] * 5


def test_an_invitation_expires_and_can_be_withdrawn(resources: Resources, client: TestClient, admin: Tenant) -> None:
    late, unwanted = invite(admin), invite(admin, "fay@example.com")
    assert admin.delete(f"/users/invitations/{unwanted['id']}").status_code == 204
    assert admin.delete(f"/users/invitations/{unwanted['id']}").status_code == 404
    with resources.session() as session:
        session.execute(update(Invitation).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert register(client, "dora@example.com", invitation=late["token"]).status_code == 403
    assert register(client, "fay@example.com", invitation=unwanted["token"]).status_code == 403


def test_the_token_of_an_invitation_is_shown_once(resources: Resources, admin: Tenant) -> None:
    made = invite(admin)
    assert made["token"] not in admin.get("/users/invitations").text
    with resources.session() as session:
        assert made["token"] not in session.exec(select(Invitation)).one().model_dump_json()


def test_only_administrators_invite_and_nobody_twice(alice: Tenant, admin: Tenant) -> None:
    refused = alice.post("/users/invitations", json={"email": "dora@example.com"})
    assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "user:admin"})
    assert admin.post("/users/invitations", json={"email": "ALICE@example.com"}).status_code == 409
