"""Makers of the things that tests need, through the same doors as a user."""

from dataclasses import dataclass
from typing import Any

import httpx
from fastapi.testclient import TestClient

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
    """Make an account and return its tokens."""
    body = {"email": f"{name}@example.com", "name": name.title(), "password": PASSWORD}
    answer = client.post("/api/v1/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


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
