"""Single sign-on against a real OpenID Connect provider in a process of its own."""

import signal
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError
from sqlmodel import Session, select

from factories import PASSWORD, Tenant, make_admin, make_tenant, register
from oidc_server import Provider
from raymill.auth.models import User
from raymill.auth.sso import SsoProviders, sign_in
from raymill.auth.sso_provider import Identity
from raymill.kernel.limits import Limit
from raymill.kernel.resources import Resources
from raymill.kernel.settings import Settings, SsoProviderSettings
from servers import free_ports

pytestmark = pytest.mark.integration

KEY = {"name": "ci", "permissions": ["project:read"]}
LOGIN = "/api/v1/auth/sso/corp/login"
CALLBACK = "/api/v1/auth/sso/corp/callback"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    running = Provider()
    running.start()
    running.knows("carol-at-corp", email="Carol@example.com", email_verified=True, name="Carol C.")
    yield running
    running.stop()


@pytest.fixture
def corp(provider: Provider) -> SsoProviderSettings:
    return SsoProviderSettings(
        issuer=provider.issuer, client_id="raymill", client_secret=SecretStr("shared"), title="Corp", timeout_s=10.0
    )


@pytest.fixture
def settings(settings: Settings, corp: SsoProviderSettings) -> Settings:
    settings.auth = settings.auth.model_copy(update={"sso": {"corp": corp}})
    return settings


def sign_on(client: TestClient, provider: Provider, subject: str = "carol-at-corp") -> httpx.Response:
    url = client.get(LOGIN, follow_redirects=False).headers["Location"]
    return client.get(CALLBACK, params=provider.approve(url, subject))


def refused(answer: httpx.Response, status: int, type_: str) -> str:
    assert (answer.status_code, answer.json()["type"]) == (status, type_), answer.text
    assert set(answer.json()) == {"type", "message", "details", "request_id", "timestamp"}
    message: str = answer.json()["message"]
    return message


def test_providers_are_listed_without_their_secrets(client: TestClient) -> None:
    answer = client.get("/api/v1/auth/sso")
    assert answer.json() == [{"name": "corp", "title": "Corp", "login_url": LOGIN}]


def test_an_unknown_provider_is_not_found(client: TestClient) -> None:
    assert client.get("/api/v1/auth/sso/other/login").status_code == 404
    assert client.get("/api/v1/auth/sso/other/callback?code=x&state=y").status_code == 404


def test_a_good_sign_on_makes_an_account_once(client: TestClient, provider: Provider, session: Session) -> None:
    answer = sign_on(client, provider)
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert (tokens["user"]["email"], tokens["user"]["name"]) == ("carol@example.com", "Carol C.")
    assert tokens["user"]["role"] == "developer"
    assert answer.headers["Cache-Control"] == "no-store"
    mine = client.get("/api/v1/projects", headers={"Authorization": f"Bearer {tokens['access_token']}"})
    assert mine.status_code == 200
    assert sign_on(client, provider).json()["user"]["id"] == tokens["user"]["id"]
    body = {"email": "carol@example.com", "password": PASSWORD}
    assert client.post("/api/v1/auth/login", json=body).status_code == 401
    assert len(session.exec(select(User)).all()) == 1


def test_the_question_holds_state_nonce_and_the_hash_of_a_verifier(client: TestClient, resources: Resources) -> None:
    answer = client.get(LOGIN, follow_redirects=False)
    query = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
    key = f"sso:corp:{sha256(query['state'].encode()).hexdigest()}"
    proof = orjson.loads(resources.cache.get(key))
    assert 0 < resources.cache.ttl(key) <= 600
    assert (query["response_type"], query["client_id"]) == ("code", "raymill")
    assert query["nonce"] == proof["nonce"]
    challenge = urlsafe_b64encode(sha256(proof["verifier"].encode()).digest()).decode().rstrip("=")
    assert (query["code_challenge"], query["code_challenge_method"]) == (challenge, "S256")
    assert proof["verifier"] not in answer.headers["Location"]
    assert {"openid", "email"} <= set(query["scope"].split())
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


def test_a_verified_email_links_the_account_and_ends_what_an_unproven_one_held(
    client: TestClient, provider: Provider
) -> None:
    before = make_tenant(client, "carol")
    key = before.post("/api-keys", json=KEY | {"project_id": before.project_id}).json()["key"]
    mine = f"/api/v1/projects/{before.project_id}"
    assert client.get(mine, headers={"X-API-Key": key}).status_code == 200
    linked = sign_on(client, provider).json()
    assert linked["user"]["id"] == before.user_id
    assert before.get("/projects").status_code == 401
    assert client.get(mine, headers={"X-API-Key": key}).status_code == 401
    assert client.get(mine, headers={"Authorization": f"Bearer {linked['access_token']}"}).status_code == 200
    body = {"email": "carol@example.com", "password": PASSWORD}
    assert client.post("/api/v1/auth/login", json=body).status_code == 401


def test_a_second_link_of_a_proven_email_ends_nothing(client: TestClient, provider: Provider) -> None:
    bearer = {"Authorization": f"Bearer {sign_on(client, provider).json()['access_token']}"}
    project = client.post("/api/v1/projects", json={"name": "vision"}, headers=bearer).json()["id"]
    made = client.post("/api/v1/api-keys", json=KEY | {"project_id": project}, headers=bearer).json()["key"]
    provider.knows("carol-again", email="carol@example.com", email_verified=True)
    assert sign_on(client, provider, "carol-again").status_code == 200
    for headers in (bearer, {"X-API-Key": made}):
        assert client.get(f"/api/v1/projects/{project}", headers=headers).status_code == 200


def test_a_linked_person_stays_so_with_another_email(client: TestClient, provider: Provider) -> None:
    provider.knows("erin-at-corp", email="erin@example.com", email_verified=True)
    first = sign_on(client, provider, "erin-at-corp").json()
    provider.knows("erin-at-corp", email="erin.new@example.com")
    assert sign_on(client, provider, "erin-at-corp").json()["user"]["id"] == first["user"]["id"]


@pytest.mark.parametrize("claims", [{"email_verified": False}, {}, {"email_verified": "no"}])
def test_an_email_that_is_not_verified_links_nothing(
    client: TestClient, provider: Provider, claims: dict[str, Any]
) -> None:
    register(client, "dave")
    provider.knows("dave-at-corp", email="dave@example.com", **claims)
    assert "verified" in refused(sign_on(client, provider, "dave-at-corp"), 403, "AUTHORIZATION_ERROR")


def test_a_wrong_state_is_refused(client: TestClient, provider: Provider) -> None:
    url = client.get(LOGIN, follow_redirects=False).headers["Location"]
    back = provider.approve(url, "carol-at-corp")
    for state in ("", "x", back["state"][:-1]):
        refused(client.get(CALLBACK, params=back | {"state": state}), 401, "AUTHENTICATION_ERROR")


def test_a_sign_on_that_another_browser_began_is_refused(client: TestClient, provider: Provider) -> None:
    url = client.get(LOGIN, follow_redirects=False).headers["Location"]
    back = provider.approve(url, "carol-at-corp")
    client.cookies.clear()
    assert "this browser" in refused(client.get(CALLBACK, params=back), 401, "AUTHENTICATION_ERROR")


def test_a_sign_on_ends_once(client: TestClient, provider: Provider) -> None:
    url = client.get(LOGIN, follow_redirects=False).headers["Location"]
    back = provider.approve(url, "carol-at-corp")
    cookies = dict(client.cookies)
    assert client.get(CALLBACK, params=back).status_code == 200
    assert not client.cookies
    client.cookies.update(cookies)
    assert "has ended" in refused(client.get(CALLBACK, params=back), 401, "AUTHENTICATION_ERROR")


def test_a_wrong_nonce_is_refused(client: TestClient, provider: Provider) -> None:
    url = client.get(LOGIN, follow_redirects=False).headers["Location"]
    nonce = parse_qs(urlsplit(url).query)["nonce"][0]
    back = provider.approve(url.replace(nonce, "of-another-sign-on"), "carol-at-corp")
    assert "nonce" in refused(client.get(CALLBACK, params=back), 401, "AUTHENTICATION_ERROR")


def test_a_code_that_is_no_longer_good_is_refused(client: TestClient, provider: Provider) -> None:
    url = client.get(LOGIN, follow_redirects=False).headers["Location"]
    back = provider.approve(url, "carol-at-corp")
    redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
    form = {"grant_type": "authorization_code", "code": back["code"], "redirect_uri": redirect}
    used = httpx.post(f"{provider.issuer}/oauth2/token", data=form, auth=("raymill", "shared"))
    assert used.status_code == 200, used.text
    assert "invalid_grant" in refused(client.get(CALLBACK, params=back), 401, "AUTHENTICATION_ERROR")


def test_a_person_who_denies_at_the_provider_is_told_so(client: TestClient) -> None:
    client.get(LOGIN, follow_redirects=False)
    answer = client.get(CALLBACK, params={"error": "access_denied", "state": "x"})
    assert "access_denied" in refused(answer, 401, "AUTHENTICATION_ERROR")


def test_a_disabled_account_stays_out(client: TestClient, provider: Provider, session: Session) -> None:
    user = session.get_one(User, sign_on(client, provider).json()["user"]["id"])
    user.disabled_at = user.created_at
    session.add(user)
    session.commit()
    assert "disabled" in refused(sign_on(client, provider), 401, "AUTHENTICATION_ERROR")


def test_a_provider_that_makes_no_accounts_lets_only_the_known_in(
    client: TestClient, provider: Provider, corp: SsoProviderSettings
) -> None:
    corp.creates_accounts = False
    assert "no account" in refused(sign_on(client, provider), 401, "AUTHENTICATION_ERROR")
    register(client, "carol")
    assert sign_on(client, provider).status_code == 200


@pytest.fixture
def root(client: TestClient) -> Tenant:
    """Return an administrator, who remains one."""
    return make_admin(make_tenant(client, "root"))


def sign_on_with(client: TestClient, provider: Provider, groups: list[str]) -> dict[str, Any]:
    provider.knows("gina-at-corp", email="gina@example.com", email_verified=True, groups=groups)
    user: dict[str, Any] = sign_on(client, provider, "gina-at-corp").json()["user"]
    return user


def test_groups_give_and_take_the_global_role(
    client: TestClient, provider: Provider, corp: SsoProviderSettings, root: Tenant
) -> None:
    corp.roles = {"ml-admins": "admin", "interns": "guest"}
    roles = [sign_on_with(client, provider, groups)["role"] for groups in (["interns", "ml-admins"], ["interns"], [])]
    assert roles == ["admin", "guest", "developer"]


def test_the_last_administrator_is_not_demoted_by_a_provider(
    client: TestClient, provider: Provider, corp: SsoProviderSettings, root: Tenant
) -> None:
    corp.roles = {"ml-admins": "admin"}
    provider.knows("root-at-corp", email="root@example.com", email_verified=True)
    assert sign_on(client, provider, "root-at-corp").json()["user"]["role"] == "admin"


def test_groups_decide_who_is_in_the_teams_that_they_name_and_in_no_other(
    client: TestClient, provider: Provider, corp: SsoProviderSettings, root: Tenant
) -> None:
    corp.teams = {"vision": "vision-team", "speech": "speech-team", "gone": "no-such-team"}
    gina = sign_on_with(client, provider, [])
    for name in ("vision-team", "speech-team", "own-team"):
        root.post("/teams", json={"name": name})
    root.put(f"/teams/own-team/members/{gina['id']}", json={"role": "member"})
    held = []
    for groups in (["vision", "gone"], ["vision"], ["speech"], []):
        sign_on_with(client, provider, groups)
        teams = root.get("/teams").json()["items"]
        held.append({team["name"] for team in teams if gina["id"] in [each["user_id"] for each in team["members"]]})
    mine = {"own-team"}
    assert held == [mine | {"vision-team"}, mine | {"vision-team"}, mine | {"speech-team"}, mine]


def test_the_only_owner_of_a_team_stays_in_it(
    client: TestClient, provider: Provider, corp: SsoProviderSettings, root: Tenant
) -> None:
    corp.teams = {"vision": "vision-team"}
    root.post("/teams", json={"name": "vision-team"})
    provider.knows("root-at-corp", email="root@example.com", email_verified=True)
    token = sign_on(client, provider, "root-at-corp").json()["access_token"]
    team = client.get("/api/v1/teams/vision-team", headers={"Authorization": f"Bearer {token}"}).json()
    assert [(each["user_id"], each["role"]) for each in team["members"]] == [(root.user_id, "owner")]


def test_a_first_sign_on_that_ends_twice_at_once_makes_one_account(resources: Resources, session: Session) -> None:
    found = SsoProviders(resources.settings).get("corp")
    identity = Identity(found.settings.issuer, "h", "heidi@example.com", True, "Heidi", frozenset())

    def sign_in_once(_: int) -> str:
        with resources.session() as opened:
            answer = sign_in(
                opened,
                provider=found,
                identity=identity,
                signer=resources.signer,
                settings=resources.settings.auth,
            )
        return answer.user.id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(sign_in_once, range(6)))) == 1
    assert len(session.exec(select(User)).all()) == 1


def test_nobody_signs_on_to_a_service_account(
    client: TestClient, provider: Provider, session: Session, root: Tenant
) -> None:
    session.add(User(id="usr_robot", email="robot@example.com", name="Robot", role="guest", project_id=root.project_id))
    session.commit()
    provider.knows("robot-at-corp", email="robot@example.com", email_verified=True)
    assert "service account" in refused(sign_on(client, provider, "robot-at-corp"), 401, "AUTHENTICATION_ERROR")


def test_an_address_that_begins_too_many_is_refused(client: TestClient, resources: Resources) -> None:
    for _ in range(600):
        resources.limiter.hit("sso", "testclient", Limit(600, 600))
    answer = client.get(LOGIN, follow_redirects=False)
    refused(answer, 429, "RATE_LIMIT_EXCEEDED")
    assert 1 <= int(answer.headers["Retry-After"]) <= 600


def test_a_dead_provider_is_a_502_and_soon_left_alone(client: TestClient, corp: SsoProviderSettings) -> None:
    corp.issuer = f"http://localhost:{free_ports(1)[0]}"
    answers = [client.get(LOGIN, follow_redirects=False) for _ in range(4)]
    for answer in answers:
        refused(answer, 502, "EXTERNAL_SERVICE_ERROR")
    assert "Retry-After" not in answers[0].headers
    assert "left alone" in answers[-1].json()["message"]
    assert 25 <= int(answers[-1].headers["Retry-After"]) <= 30


@pytest.mark.alone
def test_a_silent_provider_is_a_502_within_its_timeout_and_then_at_once(
    client: TestClient, provider: Provider, corp: SsoProviderSettings
) -> None:
    corp.timeout_s = 1.0
    provider.send(signal.SIGSTOP)
    try:
        seconds = [_seconds_to_fail(client) for _ in range(4)]
    finally:
        provider.send(signal.SIGCONT)
    assert max(seconds) < 1.5
    assert seconds[-1] < 0.3


def test_a_provider_that_goes_between_question_and_answer_is_a_502(
    client: TestClient, provider: Provider, corp: SsoProviderSettings
) -> None:
    corp.timeout_s = 1.0
    url = client.get(LOGIN, follow_redirects=False).headers["Location"]
    back = provider.approve(url, "carol-at-corp")
    provider.send(signal.SIGSTOP)
    try:
        refused(client.get(CALLBACK, params=back), 502, "EXTERNAL_SERVICE_ERROR")
    finally:
        provider.send(signal.SIGCONT)


def test_another_issuer_behind_the_url_is_not_believed(
    client: TestClient, provider: Provider, corp: SsoProviderSettings
) -> None:
    corp.issuer = f"http://127.0.0.1:{provider.port}/"
    assert "another issuer" in refused(client.get(LOGIN, follow_redirects=False), 502, "EXTERNAL_SERVICE_ERROR")


def test_an_issuer_without_encryption_is_refused_by_the_settings() -> None:
    with pytest.raises(ValidationError, match="https"):
        SsoProviderSettings(issuer="http://sso.example.com", client_id="raymill")


def _seconds_to_fail(client: TestClient) -> float:
    started = time.monotonic()
    refused(client.get(LOGIN, follow_redirects=False), 502, "EXTERNAL_SERVICE_ERROR")
    return time.monotonic() - started
