"""What people see and change of their own account."""

from dataclasses import replace
from typing import cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import QueuePool, event

from factories import PASSWORD, Tenant
from raymill.auth import service
from raymill.auth.errors import InvalidCredentials
from raymill.gateway.app import create_app
from raymill.kernel.limits import Decision, Limit, RateLimiter
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration


def test_name_and_preferences_change_and_nothing_else(alice: Tenant) -> None:
    answer = alice.patch("/auth/me", json={"name": " Alice B. ", "preferences": {"theme": "dark", "page": 50}})
    assert answer.status_code == 200
    assert alice.patch("/auth/me", json={}).json() == alice.get("/auth/me").json()
    me = alice.get("/auth/me").json()
    assert (me["name"], me["preferences"]) == ("Alice B.", {"theme": "dark", "page": 50})
    for body in (
        {"role": "admin"},
        {"email": "other@example.com"},
        {"name": " "},
        {"preferences": "dark"},
        {"preferences": {"a": "x" * 2**14}},
    ):
        assert alice.patch("/auth/me", json=body).status_code == 422
    assert alice.get("/auth/me").json() == me


def test_me_names_the_teams(alice: Tenant) -> None:
    team = alice.post("/teams", json={"name": "vision"}).json()
    assert alice.get("/auth/me").json()["teams"] == [team["id"]]


def test_a_new_password_ends_the_other_sessions(client: TestClient, alice: Tenant) -> None:
    login = {"email": "alice@example.com", "password": PASSWORD}
    other = client.post("/api/v1/auth/login", json=login).json()
    body = {"current_password": PASSWORD, "new_password": "violet otters swim"}
    assert alice.post("/auth/password", json=body | {"current_password": "wrong one"}).status_code == 401
    weak = alice.post("/auth/password", json=body | {"new_password": "password1234"})
    assert (weak.status_code, weak.json()["details"]) == (422, {"rule": "common"})
    assert alice.post("/auth/password", json=body).status_code == 204
    assert alice.get("/auth/me").status_code == 200
    headers = {"Authorization": f"Bearer {other['access_token']}"}
    assert client.get("/api/v1/auth/me", headers=headers).status_code == 401
    assert client.post("/api/v1/auth/login", json=login).status_code == 401
    assert client.post("/api/v1/auth/login", json=login | {"password": body["new_password"]}).status_code == 200


class Spy(RateLimiter):
    """A limiter that notes how many connections are held when it is asked."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources.limiter.cache)
        self._pool = cast(QueuePool, resources.database.engine.pool)
        self.held: list[int] = []

    def peek(self, name: str, key: str, limit: Limit) -> Decision:
        self.held.append(self._pool.checkedout())
        return super().peek(name, key, limit)


def test_a_new_password_is_hashed_without_a_connection(resources: Resources, alice: Tenant) -> None:
    spy = Spy(resources)
    with TestClient(create_app(replace(resources, limiter=spy)), root_path="/api") as client:
        body = {"current_password": PASSWORD, "new_password": "violet otters swim"}
        assert replace(alice, client=client).post("/auth/password", json=body).status_code == 204
    assert set(spy.held) == {0}


def test_of_two_new_passwords_at_once_one_is_taken(resources: Resources, alice: Tenant) -> None:
    with resources.session() as session:
        known = service.get_user(session, alice.user_id)
    with resources.session() as session:
        service.change_password(session, known, "another hash", keep_session=None)
    with pytest.raises(InvalidCredentials), resources.session() as session:
        service.change_password(session, known, "a third", keep_session=None)


def test_whoami_says_which_rights_count_where(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    bob.put(f"/projects/{bob.project_id}/members/{alice.user_id}", json={"role": "viewer"})
    mine = alice.get("/auth/whoami").json()
    assert (mine["kind"], mine["user_id"], mine["role"]) == ("user", alice.user_id, "developer")
    assert "project:create" in mine["permissions"]
    rights = {project["project_id"]: set(project["permissions"]) for project in mine["projects"]}
    assert rights.keys() == {alice.project_id, bob.project_id}
    assert "project:admin" in rights[alice.project_id] - rights[bob.project_id]
    assert "endpoint:invoke" in rights[bob.project_id]


def test_whoami_asks_the_database_as_often_for_many_projects_as_for_one(resources: Resources, alice: Tenant) -> None:
    statements: list[str] = []
    event.listen(resources.database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    asked = []
    for projects in (1, 4):
        while len(alice.get("/projects").json()["items"]) < projects:
            alice.post("/projects", json={"name": f"more-{len(statements)}"})
        statements.clear()
        assert len(alice.get("/auth/whoami").json()["projects"]) == projects
        asked.append(len(statements))
    assert asked[0] == asked[1] > 0


def test_whoami_of_a_key_is_what_the_key_may_do(client: TestClient, alice: Tenant) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["endpoint:invoke", "model:read"]}
    made = alice.post("/api-keys", json=body).json()
    answer = client.get("/api/v1/auth/whoami", headers={"Authorization": f"Bearer {made['key']}"}).json()
    assert (answer["kind"], answer["id"], answer["permissions"]) == ("key", made["id"], [])
    [rights] = answer["projects"]
    assert (rights["project_id"], rights["permissions"]) == (alice.project_id, ["endpoint:invoke", "model:read"])
