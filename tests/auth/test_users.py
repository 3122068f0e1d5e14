"""What administrators do to accounts, over HTTP."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from factories import PASSWORD, Tenant, make_admin, make_tenant
from raymill.auth import service
from raymill.auth.events import AccountChanged, SessionRevoked
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration

ADMINISTRATION = [
    ("GET", "/users"),
    ("GET", "/users/usr_x"),
    ("PUT", "/users/usr_x/role"),
    ("POST", "/users/usr_x/disable"),
    ("POST", "/users/usr_x/enable"),
    ("DELETE", "/users/usr_x"),
    ("GET", "/users/invitations"),
    ("POST", "/users/invitations"),
    ("DELETE", "/users/invitations/inv_x"),
]


def test_administration_is_for_administrators(client: TestClient, alice: Tenant) -> None:
    for method, path in ADMINISTRATION:
        refused = alice.request(method, path, json={"role": "guest", "email": "a@example.com"})
        assert (refused.status_code, refused.json()["details"]["permission"]) == (403, "user:admin"), path
        assert client.request(method, f"/api/v1{path}").status_code == 401, path


def test_the_key_of_an_administrator_does_not_administer(client: TestClient, admin: Tenant) -> None:
    body = {"name": "ci", "project_id": admin.project_id, "permissions": ["*"]}
    key = admin.post("/api-keys", json=body).json()["key"]
    assert client.get("/api/v1/users", headers={"X-API-Key": key}).status_code == 403


def test_a_role_is_assigned_and_counts_at_once(admin: Tenant, alice: Tenant) -> None:
    assert alice.get("/users").status_code == 403
    answer = admin.put(f"/users/{alice.user_id}/role", json={"role": "admin"})
    assert (answer.status_code, answer.json()["role"]) == (200, "admin")
    assert {user["email"] for user in alice.get("/users").json()["items"]} == {"alice@example.com", "bob@example.com"}
    assert admin.put("/users/usr_unknown/role", json={"role": "guest"}).status_code == 404
    assert admin.put(f"/users/{alice.user_id}/role", json={"role": "king"}).status_code == 422


def test_the_last_administrator_stays(admin: Tenant) -> None:
    for method, path, body in [
        ("PUT", "role", {"role": "developer"}),
        ("POST", "disable", None),
        ("DELETE", "", None),
    ]:
        refused = admin.request(method, f"/users/{admin.user_id}/{path}".rstrip("/"), json=body)
        assert (refused.status_code, refused.json()["type"]) == (409, "RESOURCE_CONFLICT"), method
    assert admin.get(f"/users/{admin.user_id}").json()["role"] == "admin"


def test_two_administrators_cannot_demote_each_other_at_once(
    resources: Resources, admin: Tenant, alice: Tenant
) -> None:
    make_admin(alice)
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(
            lambda pair: pair[0].put(f"/users/{pair[1].user_id}/role", json={"role": "guest"}).status_code,
            [(admin, alice), (alice, admin)],
        )
        assert 200 in (statuses := set(answers))
    assert statuses <= {200, 409, 403}
    with resources.session() as session:
        assert (
            len(
                [
                    u
                    for u in service.accounts_by_id(session, [admin.user_id, alice.user_id]).values()
                    if u.role == "admin"
                ]
            )
            == 1
        )


def test_a_disabled_account_is_out_until_it_is_enabled(
    resources: Resources, client: TestClient, admin: Tenant, alice: Tenant
) -> None:
    key = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    events: list[object] = []
    for kind in (AccountChanged, SessionRevoked):
        resources.events.subscribe(kind, events.append)
    session_id = resources.signer.verifier.claims(alice.tokens["access_token"]).session_id
    assert admin.post(f"/users/{alice.user_id}/disable").json()["disabled_at"] is not None
    assert events == [
        SessionRevoked(session_id=session_id),
        AccountChanged(user_id=alice.user_id),
    ]
    login = {"email": "alice@example.com", "password": PASSWORD}
    headers = {"X-API-Key": key["key"]}
    assert alice.get("/projects").status_code == 401
    assert client.get("/api/v1/projects", headers=headers).status_code == 401
    assert client.post("/api/v1/auth/login", json=login).status_code == 401
    assert admin.post(f"/users/{alice.user_id}/enable").json()["disabled_at"] is None
    assert alice.get("/projects").status_code == 401
    assert client.get("/api/v1/projects", headers=headers).status_code == 200
    assert client.post("/api/v1/auth/login", json=login).status_code == 200


def test_a_deleted_account_is_forgotten_and_its_address_free(client: TestClient, admin: Tenant, alice: Tenant) -> None:
    key = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    assert admin.delete(f"/users/{alice.user_id}").status_code == 204
    assert admin.get(f"/users/{alice.user_id}").status_code == 404
    assert admin.post(f"/users/{alice.user_id}/enable").status_code == 404
    assert "alice" not in admin.get("/users").text
    assert client.get("/api/v1/projects", headers={"X-API-Key": key["key"]}).status_code == 401
    again = make_tenant_of_the_same_address(client)
    assert again["user"]["id"] != alice.user_id


def make_tenant_of_the_same_address(client: TestClient) -> dict[str, dict[str, str]]:
    body = {"email": "alice@example.com", "name": "Alice", "password": PASSWORD}
    answer = client.post("/api/v1/auth/register", json=body)
    assert answer.status_code == 201
    made: dict[str, dict[str, str]] = answer.json()
    return made


def test_accounts_come_page_by_page(client: TestClient, admin: Tenant, alice: Tenant) -> None:
    make_tenant(client, "carol")
    first = admin.get("/users?limit=2").json()
    rest = admin.get(f"/users?limit=2&cursor={first['next_cursor']}").json()
    names = [user["name"] for user in first["items"] + rest["items"]]
    assert sorted(names) == ["Alice", "Bob", "Carol"]
