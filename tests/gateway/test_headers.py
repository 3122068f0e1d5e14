"""Browsers are told what the platform's answers and pages may load, and where they may stand."""

import re
from base64 import b64encode
from hashlib import sha256

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import TestClient as PageClient

from raymill.gateway.app import create_app
from raymill.kernel.resources import Resources
from raymill.kernel.settings import HttpSettings, Settings
from raymill.serve_apps import console

pytestmark = pytest.mark.integration

ORIGIN = "https://tools.example.com"


@pytest.mark.parametrize("path", ["/api/healthz", "/api/v1/projects", "/api/v1/nothing", "/api/docs"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_https_is_asked_for_only_over_https(resources: Resources) -> None:
    app = create_app(resources)
    with TestClient(app, base_url="https://mill.example.com") as safe, TestClient(app) as plain:
        assert int(safe.get("/healthz").headers["Strict-Transport-Security"].split("=")[1]) > 31_536_000
        assert "Strict-Transport-Security" not in plain.get("/healthz").headers


def test_the_api_page_loads_what_this_installation_holds_and_nothing_else(client: TestClient) -> None:
    page = client.get("/api/docs")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) == 3
    for source in sources:
        assert client.get(source).status_code == 200, source
    assert_policy_allows_inline_scripts(page.text, page.headers["Content-Security-Policy"])
    assert "url: '/api/openapi.json'" in page.text


def test_the_console_runs_its_own_script_only() -> None:
    with PageClient(console._asgi()) as client:
        page = client.get("/console")
    assert_policy_allows_inline_scripts(page.text, page.headers["Content-Security-Policy"])
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_no_other_origin_may_read_by_default(client: TestClient) -> None:
    answer = client.get("/api/healthz", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_origins_of_the_settings_may(resources: Resources, settings: Settings) -> None:
    settings.http = HttpSettings(cors_origins=(ORIGIN,))
    with TestClient(create_app(resources)) as client:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        before = client.options("/v1/projects", headers={"Origin": ORIGIN} | asked)
        refused = client.get("/v1/projects", headers={"Origin": ORIGIN})
        stranger = client.get("/v1/projects", headers={"Origin": "https://evil.example.com"})
    assert (before.status_code, before.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    assert "X-RateLimit-Remaining" in refused.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in refused.headers
    assert "Access-Control-Allow-Origin" not in stranger.headers


def assert_policy_allows_inline_scripts(page: str, policy: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert scripts
    allowed = next(part for part in policy.split("; ") if part.startswith("script-src"))
    for script in scripts:
        assert f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in allowed
    assert "unsafe" not in allowed
