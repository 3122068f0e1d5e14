"""What a process inside of a Ray cluster learns from Ray itself, whoever started the cluster and however."""

from collections.abc import Callable
from typing import Any

import ray
from pydantic import SecretStr
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray._private.services import get_webui_url_from_internal_kv
from ray.serve.context import _get_global_client

from ..kernel.settings import Settings
from .embedded.ray_head import EmbeddedRay


def settings_inside_ray(settings: Settings) -> Settings:
    """Return the settings with the cluster's own facts in place of our defaults.

    These are the addresses of GCS and dashboard, the token, and the port on which Serve listens. What the operator
    gave for the cluster's addresses stays, and our own head has no address: it is not a cluster that we joined.
    """
    address = ray.get_runtime_context().gcs_address
    joined = None if address == EmbeddedRay(settings).gcs_address else address
    facts = {"address": settings.ray.address or joined, "dashboard_url": _dashboard_url(settings), "token": _token()}
    given = {name: value for name, value in facts.items() if value is not None}
    http = settings.http.model_copy(update={"port": _serve_port() or settings.http.port})
    return settings.model_copy(update={"ray": settings.ray.model_copy(update=given), "http": http})


def _dashboard_url(settings: Settings) -> str | None:
    of_ray: Callable[[], str | None] = get_webui_url_from_internal_kv
    found = settings.ray.dashboard_url or of_ray()
    return f"http://{found}" if found and "://" not in found else found


def _token() -> SecretStr | None:
    """The token by which Ray's own clients in this process authenticate; None when the cluster asks for none."""
    bearer = get_auth_headers_if_auth_enabled({}).get("authorization", "")
    return SecretStr(bearer.removeprefix("Bearer ")) if bearer else None


def _serve_port() -> int | None:
    client: Any = _get_global_client(raise_if_no_controller_running=False)
    return int(client.http_config.port) if client else None


__all__ = ["settings_inside_ray"]
