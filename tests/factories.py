"""Makers of the things that tests need."""

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import col

from raymill.auth.models import User
from raymill.auth.service import open_session
from raymill.kernel.ids import new_id
from raymill.kernel.resources import Resources
from raymill.kernel.security import hash_password

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Tenant:
    """A logged-in user, the user's project, and a client that carries the login."""

    client: TestClient
    user_id: str
    project_id: str
    tokens: dict[str, Any]

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Send a request below /api/v1 as this user."""
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"} | kwargs.pop("headers", {})
        return self.client.request(method, f"/api/v1{path}", headers=headers, **kwargs)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("POST", path, **kwargs)

    def put(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("PUT", path, **kwargs)

    def patch(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("PATCH", path, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.request("DELETE", path, **kwargs)


def register(client: TestClient, name: str) -> dict[str, Any]:
    """Make an account and log it in, without the door that hashes a password each time."""
    resources: Resources = cast(FastAPI, client.app).state.resources
    user = User(
        id=new_id("usr"),
        email=f"{name}@example.com",
        name=name.title(),
        role="developer",
        password_hash=_password_hash(),
    )
    with resources.session() as session:
        session.add(user)
        session.flush()
        answer = open_session(session, user=user, signer=resources.signer, settings=resources.settings.auth)
    tokens: dict[str, Any] = answer.model_dump(mode="json")
    return tokens


@cache
def _password_hash() -> str:
    return hash_password(PASSWORD)


def make_tenant(client: TestClient, name: str) -> Tenant:
    """Make an account with a project named after it."""
    tokens = register(client, name)
    project = client.post(
        "/api/v1/projects",
        json={"name": f"{name}-project"},
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
    )
    assert project.status_code == 201, project.text
    return Tenant(client=client, user_id=tokens["user"]["id"], project_id=project.json()["id"], tokens=tokens)


def make_admin(tenant: Tenant) -> Tenant:
    """Make the account an administrator's."""
    return give_role(tenant, "admin")


def give_role(tenant: Tenant, role: str) -> Tenant:
    """Give the account a global role."""
    resources: Resources = cast(FastAPI, tenant.client.app).state.resources
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == tenant.user_id).values(role=role))
    return tenant


def make_key(tenant: Tenant, **changes: Any) -> dict[str, Any]:
    """Make an API key of the tenant's project that may whatever the tenant may, unless told otherwise."""
    body = {"name": "ci", "project_id": tenant.project_id, "permissions": ["*"]} | changes
    answer = tenant.post("/api-keys", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made
