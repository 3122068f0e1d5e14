"""Accounts, sessions and tokens over HTTP."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from factories import PASSWORD, Tenant, register

pytestmark = pytest.mark.integration


def test_register_answers_with_account_and_tokens(client: TestClient) -> None:
    tokens = register(client, "carol")
    assert tokens["user"]["email"] == "carol@example.com"
    assert tokens["user"]["role"] == "developer"
    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == 900
    assert "password" not in str(tokens["user"])


def test_email_is_unique_whatever_its_case(client: TestClient) -> None:
    register(client, "carol")
    body = {"email": "Carol@Example.com", "name": "Other", "password": PASSWORD}
    answer = client.post("/api/v1/auth/register", json=body)
    assert (answer.status_code, answer.json()["type"]) == (409, "RESOURCE_CONFLICT")


@pytest.mark.parametrize(("password", "rule"), [("short", "at least 12"), ("a" * 20, "different characters")])
def test_weak_password_names_the_rule(client: TestClient, password: str, rule: str) -> None:
    answer = client.post("/api/v1/auth/register", json={"email": "d@example.com", "name": "D", "password": password})
    assert answer.status_code == 422
    assert rule in answer.json()["message"]


def test_login_does_not_tell_unknown_email_from_wrong_password(client: TestClient) -> None:
    register(client, "carol")
    wrong = client.post("/api/v1/auth/login", json={"email": "carol@example.com", "password": "wrong password"})
    unknown = client.post("/api/v1/auth/login", json={"email": "nobody@example.com", "password": "wrong password"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["message"] == unknown.json()["message"]


def test_login_then_me(client: TestClient) -> None:
    register(client, "carol")
    tokens = client.post("/api/v1/auth/login", json={"email": "CAROL@example.com ", "password": PASSWORD}).json()
    me = client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert me.json()["id"] == tokens["user"]["id"]
    assert me.json()["last_login_at"] is not None


def test_refresh_rotates_and_reuse_ends_the_session(client: TestClient, alice: Tenant) -> None:
    first = alice.tokens["refresh_token"]
    second = client.post("/api/v1/auth/refresh", json={"refresh_token": first}).json()
    assert second["refresh_token"] != first
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": first}).status_code == 401
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": second["refresh_token"]}).status_code == 401
    assert alice.get("/auth/me").status_code == 401


def test_parallel_refresh_lets_one_through_and_ends_the_family(client: TestClient, alice: Tenant) -> None:
    body = {"refresh_token": alice.tokens["refresh_token"]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/api/v1/auth/refresh", json=body).status_code, range(20)))
    assert sorted(answers) == [200] + [401] * 19
    assert alice.get("/auth/me").status_code == 401


def test_logout_ends_the_session_at_once(alice: Tenant) -> None:
    assert alice.post("/auth/logout").status_code == 204
    refused = alice.get("/auth/me")
    assert (refused.status_code, refused.json()["type"]) == (401, "AUTHENTICATION_ERROR")


def test_validate_token_says_why_not(client: TestClient, alice: Tenant) -> None:
    good = client.post("/api/v1/auth/validate", json={"token": alice.tokens["access_token"]}).json()
    bad = client.post("/api/v1/auth/validate", json={"token": alice.tokens["access_token"][:-4] + "AAAA"}).json()
    assert (good["valid"], good["user_id"]) == (True, alice.user_id)
    assert bad["valid"] is False
    assert bad["reason"]


def test_jwks_has_the_public_key_only(client: TestClient) -> None:
    [key] = client.get("/api/v1/auth/jwks").json()["keys"]
    assert key["crv"] == "Ed25519"
    assert "d" not in key


def test_roles_are_listed_with_permissions(alice: Tenant) -> None:
    everywhere = {role["name"]: role["permissions"] for role in alice.get("/roles").json()}
    assert list(everywhere) == ["admin", "developer", "viewer", "guest"]
    assert "user:admin" in everywhere["admin"]
    assert everywhere["guest"] == []
    roles = {role["name"]: role["permissions"] for role in alice.get("/roles?scope=project").json()}
    assert "endpoint:invoke" in roles["viewer"]
    assert "model:write" not in roles["viewer"]


PRIVATE = [
    ("GET", "/auth/me"),
    ("POST", "/auth/logout"),
    ("GET", "/roles"),
]


@pytest.mark.parametrize(("method", "path"), PRIVATE)
def test_anonymous_is_refused(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"/api/v1{path}")
    assert (answer.status_code, answer.json()["type"]) == (401, "AUTHENTICATION_ERROR")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer rm_unknown"},
        {"Authorization": "Bearer not.a.token"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YWxpY2U6cGFzc3dvcmQ="},
        {"X-API-Key": "rm_unknown"},
        {"X-API-Key": "unknown"},
    ],
)
def test_a_bad_credential_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.get("/api/v1/auth/me", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (401, "AUTHENTICATION_ERROR")


def test_an_api_key_is_not_a_person(client: TestClient, alice: Tenant) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}
    headers = {"X-API-Key": alice.post("/api-keys", json=body).json()["key"]}
    for method, path in PRIVATE:
        assert client.request(method, f"/api/v1{path}", headers=headers).status_code == 403


def test_a_refused_body_never_repeats_the_password(client: TestClient) -> None:
    body = {"email": "not an email", "name": "D", "password": PASSWORD, "extra": 1}
    answer = client.post("/api/v1/auth/register", json=body)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text


def test_an_unknown_field_is_refused(client: TestClient) -> None:
    body = {"email": "d@example.com", "name": "D", "password": PASSWORD, "role": "admin"}
    answer = client.post("/api/v1/auth/register", json=body)
    assert answer.status_code == 422
    assert "role" in answer.json()["message"]


def test_text_that_the_database_cannot_hold_is_refused(client: TestClient) -> None:
    answer = client.post("/api/v1/auth/login", json={"email": "a\x00@example.com", "password": PASSWORD})
    assert answer.status_code in (401, 422)
    name = {"email": "d@example.com", "name": "D\x00", "password": PASSWORD}
    assert client.post("/api/v1/auth/register", json=name).status_code == 422


def test_logout_leaves_other_sessions_alone(client: TestClient, alice: Tenant) -> None:
    other = client.post("/api/v1/auth/login", json={"email": "alice@example.com", "password": PASSWORD}).json()
    alice.post("/auth/logout")
    headers = {"Authorization": f"Bearer {other['access_token']}"}
    assert client.get("/api/v1/auth/me", headers=headers).status_code == 200
