"""Signing keys are replaced while the whole platform runs, and nobody notices."""

import base64
import json
from typing import Any

import pytest

from raymill.sdk import Client
from timing import until
from whole_platform import Platform, Tenant

pytestmark = pytest.mark.e2e


def key_id(token: str) -> str:
    header = token.split(".")[0]
    kid: str = json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]
    return kid


def test_old_and_new_tokens_predict_on_every_replica(platform: Platform, tenant: Tenant, digits: Any) -> None:
    """Cost: 3 s."""
    email = tenant.client.auth.me().email
    rotated = platform.command("keys", "rotate").stdout

    def new_token() -> str | None:
        with Client(platform.url) as anonymous:
            token = anonymous.auth.login(email=email, password="correct horse battery").access_token
        return token if key_id(token) in rotated else None

    token = until(new_token, within_s=5, what="the api signs with the new key")
    with Client(platform.url, token) as renewed:
        for client in (renewed, tenant.client) * 8:
            client.endpoints.predict(tenant.deployment.endpoint, digits.held_out[:1])
