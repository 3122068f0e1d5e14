"""Who asks too often is told so, by account, by key and by address."""

import pytest
from fastapi.testclient import TestClient

from factories import Tenant, make_tenant
from raymill.gateway.app import create_app
from raymill.kernel.resources import Resources
from raymill.kernel.settings import LimitSettings, Settings

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few requests, so that a test can use them up."""
    limits = LimitSettings(principal_per_minute=10, address_per_minute=30)
    return settings.model_copy(update={"limits": limits})


def counts(answer: object) -> tuple[int, int]:
    headers = answer.headers  # type: ignore[attr-defined]
    assert 1 <= int(headers["X-RateLimit-Reset"]) <= 60
    return int(headers["X-RateLimit-Limit"]), int(headers["X-RateLimit-Remaining"])


def use_up(tenant: Tenant) -> None:
    while counts(tenant.get("/projects"))[1]:
        pass


def test_every_answer_says_how_many_are_left(alice: Tenant) -> None:
    limit, remaining = counts(alice.get("/projects"))
    assert limit == 10
    assert counts(alice.get("/nothing")) == (10, remaining - 1)


def test_an_account_that_asks_too_often_is_refused_and_another_one_is_not(alice: Tenant, bob: Tenant) -> None:
    use_up(alice)
    answer = alice.get("/projects")
    assert (answer.status_code, answer.json()["type"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert answer.headers["Retry-After"] == answer.headers["X-RateLimit-Reset"]
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.json()["details"]["limit"] == 10
    assert bob.get("/projects").status_code == 200


def test_a_new_token_of_the_same_account_shares_its_count(client: TestClient, alice: Tenant) -> None:
    tokens = client.post("/api/v1/auth/refresh", json={"refresh_token": alice.tokens["refresh_token"]}).json()
    use_up(alice)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert client.get("/api/v1/projects", headers=headers).status_code == 429


def test_a_key_counts_for_itself(client: TestClient, alice: Tenant) -> None:
    body = {"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}
    key = alice.post("/api-keys", json=body).json()["key"]
    use_up(alice)
    by_header = client.get("/api/v1/projects", headers={"X-API-Key": key})
    assert by_header.status_code == 200
    by_bearer = client.get("/api/v1/projects", headers={"Authorization": f"Bearer {key}"})
    assert counts(by_bearer)[1] == counts(by_header)[1] - 1


def test_an_address_without_a_login_is_limited_too_but_not_in_what_watches_the_platform(client: TestClient) -> None:
    answers = [client.get("/api/v1/auth/jwks", headers={"Authorization": "Bearer forged"}) for _ in range(31)]
    assert [answer.status_code for answer in answers[-2:]] == [200, 429]
    assert counts(answers[0]) == (30, 29)
    for path in ("healthz", "readyz", "metrics"):
        answer = client.get(f"/api/{path}")
        assert answer.status_code == 200
        assert "X-RateLimit-Limit" not in answer.headers
    refused = 'raymill_api_requests_total{method="GET",route="unmatched",status="429"} 1.0'
    assert refused in client.get("/api/metrics").text


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", False),
    ],
)
def test_a_network_of_ipv6_is_one_address(resources: Resources, one: str, other: str, is_shared: bool) -> None:
    app = create_app(resources)
    with TestClient(app, client=(one, 1)) as first, TestClient(app, client=(other, 1)) as second:
        first.get("/v1/auth/jwks")
        assert counts(second.get("/v1/auth/jwks"))[1] == (28 if is_shared else 29)


def test_without_valkey_each_process_counts_alone(client: TestClient, resources: Resources) -> None:
    tenant = make_tenant(client, "carol")
    for valkey in (resources.cache, resources.limiter.cache):
        valkey.connection_pool.connection_kwargs["port"] = 1
        valkey.connection_pool.reset()
    statuses = [tenant.get("/projects").status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
