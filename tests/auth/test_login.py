"""Logging in: by form, under a throttle, and without telling who has an account."""

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from factories import PASSWORD, Tenant, register
from raymill.auth.errors import InvalidCredentials, TooManyAttempts
from raymill.auth.events import RefreshTokenReused
from raymill.auth.throttle import LoginAttempt
from raymill.kernel.resources import Resources
from raymill.kernel.settings import AuthSettings

from .conftest import set_auth

pytestmark = pytest.mark.integration


def log_in(client: TestClient, email: str, password: str) -> httpx.Response:
    return client.post("/api/v1/auth/login", json={"email": email, "password": password})


def fail(resources: Resources, email: str, address: str, settings: AuthSettings) -> None:
    with pytest.raises(InvalidCredentials), LoginAttempt(resources.limiter, settings, email, address):
        raise InvalidCredentials


def test_the_oauth_form_opens_a_session(client: TestClient, alice: Tenant) -> None:
    form = {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD}
    answer = client.post("/api/v1/auth/token", data=form)
    assert (answer.status_code, answer.json()["token_type"]) == (200, "bearer")
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert client.get("/api/v1/auth/me", headers=headers).json()["id"] == alice.user_id
    assert client.post("/api/v1/auth/token", data=form | {"password": "wrong"}).status_code == 401
    assert client.post("/api/v1/auth/token", data={}).status_code == 422


def test_swagger_knows_where_to_log_in(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    schemes = document["components"]["securitySchemes"].values()
    flows = [scheme["flows"]["password"]["tokenUrl"] for scheme in schemes if scheme["type"] == "oauth2"]
    assert flows == ["/api/v1/auth/token"]


def test_the_eleventh_guess_is_refused_even_with_the_right_password(client: TestClient) -> None:
    register(client, "carol")
    guesses = [log_in(client, "carol@example.com", f"wrong guess {n}").status_code for n in range(10)]
    assert guesses == [401] * 10
    refused = log_in(client, " Carol@example.com", PASSWORD)
    assert (refused.status_code, refused.json()["type"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert 0 < int(refused.headers["Retry-After"]) <= 900
    register(client, "dan")
    assert log_in(client, "dan@example.com", PASSWORD).status_code == 200


def test_parallel_guesses_do_not_slip_through(app: FastAPI, client: TestClient) -> None:
    set_auth(app, login_failures_per_account=3)
    register(client, "carol")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: log_in(client, "carol@example.com", f"guess {n}").status_code, range(6)))
    assert sorted(answers) == [401] * 3 + [429] * 3


def test_any_number_of_people_who_know_the_password_come_in_at_once(app: FastAPI, client: TestClient) -> None:
    set_auth(app, login_failures_per_account=1)
    register(client, "carol")
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: log_in(client, "carol@example.com", PASSWORD).status_code, range(4))
    assert set(answers) == {200}


def test_a_right_password_among_too_many_guesses_is_not_told(resources: Resources) -> None:
    settings = AuthSettings(login_failures_per_account=2)

    def come_in_while_others_guess() -> None:
        with LoginAttempt(resources.limiter, settings, "carol@example.com", "192.0.2.1"):
            for _ in range(2):
                fail(resources, "carol@example.com", "192.0.2.1", settings)

    with pytest.raises(TooManyAttempts):
        come_in_while_others_guess()


def test_a_right_password_forgets_the_wrong_ones_of_the_account(resources: Resources) -> None:
    settings = AuthSettings(login_failures_per_account=2)
    for _ in range(3):
        fail(resources, "carol@example.com", "192.0.2.1", settings)
        with LoginAttempt(resources.limiter, settings, "carol@example.com", "192.0.2.1"):
            pass


@pytest.mark.parametrize(
    ("same", "other"), [("192.0.2.{}", "198.51.100.1"), ("2001:db8:0:1::{}", "2001:db8:0:2::1")], ids=["IPv4", "IPv6"]
)
def test_one_address_may_fail_at_so_many_accounts(resources: Resources, same: str, other: str) -> None:
    settings = AuthSettings(login_failures_per_address=5)
    # Who has one address of IPv6 has all of its /64.
    addresses = [same.format(1 if "." in same else number) for number in range(6)]
    for number in range(5):
        fail(resources, f"u{number}@example.com", addresses[number], settings)
    with pytest.raises(TooManyAttempts), LoginAttempt(resources.limiter, settings, "new@example.com", addresses[5]):
        pass
    with LoginAttempt(resources.limiter, settings, "new@example.com", other):
        pass


@pytest.mark.alone
def test_unknown_accounts_and_wrong_passwords_take_the_same_time(client: TestClient) -> None:
    register(client, "carol")

    def fastest(email: str) -> float:
        seconds = []
        for _ in range(3):
            started = perf_counter()
            assert log_in(client, email, "wrong password").status_code == 401
            seconds.append(perf_counter() - started)
        return min(seconds)

    known, unknown = fastest("carol@example.com"), fastest("nobody@example.com")
    # Argon2 is nearly all of it; without it the shorter would be a tenth of the longer.
    assert min(known, unknown) > 0.35 * max(known, unknown)


def test_the_second_use_of_a_refresh_token_is_an_event(resources: Resources, client: TestClient, alice: Tenant) -> None:
    seen: list[RefreshTokenReused] = []
    resources.events.subscribe(RefreshTokenReused, seen.append)
    for _ in range(2):
        client.post("/api/v1/auth/refresh", json={"refresh_token": alice.tokens["refresh_token"]})
    session_id = resources.signer.verifier.claims(alice.tokens["access_token"]).session_id
    assert seen == [RefreshTokenReused(session_id=session_id, user_id=alice.user_id)]


def test_logout_all_ends_every_session_of_the_caller_alone(client: TestClient, alice: Tenant, bob: Tenant) -> None:
    other = log_in(client, "alice@example.com", PASSWORD).json()
    assert alice.post("/auth/logout-all").status_code == 204
    for token in (alice.tokens["access_token"], other["access_token"]):
        assert client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": other["refresh_token"]}).status_code == 401
    assert bob.get("/auth/me").status_code == 200
