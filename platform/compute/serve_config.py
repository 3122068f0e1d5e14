"""The static applications: reads apps.yaml, hands it to Ray Serve, waits until all of it runs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from ..kernel.errors import ExternalServiceError
from ..kernel.settings import Settings
from .cluster import Cluster, ClusterUnreachable, ServeApp
from .serve_environment import serve_http_options

POLL_S = 0.2
# The dashboard restarts a part of itself that died, and drops who asks meanwhile.
SILENCE_S = 20.0
FAILED = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})

Answer = TypeVar("Answer")


class AppsFileUnusable(ExternalServiceError):
    """Raised when apps.yaml is missing or is not a Serve configuration."""


class AppFailed(ExternalServiceError):
    """Raised when a static application does not come to run."""


def apps_file() -> Path:
    """The apps.yaml of this installation: package data, in a checkout a link to the top-level file."""
    return Path(__file__).parents[1] / "serve_apps" / "apps.yaml"


def read_serve_config(path: Path, settings: Settings) -> dict[str, Any]:
    """Read a Serve configuration and put the settings' addresses into it.

    Raises:
        AppsFileUnusable: When the file cannot be read as one.
    """
    try:
        config = yaml.safe_load(path.read_text())
        names = [app["name"] for app in config["applications"]]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise AppsFileUnusable(f"{path} is not a Ray Serve configuration: {error!r}.") from error
    if not names:
        raise AppsFileUnusable(f"{path} lists no application.")
    http = config.get("http_options", {}) | serve_http_options(settings)
    grpc = config.get("grpc_options", {}) | {"port": settings.http.grpc_port}
    merged: dict[str, Any] = config | {"http_options": http, "grpc_options": grpc}
    return merged


def deploy(
    cluster: Cluster,
    config: dict[str, Any],
    *,
    timeout_s: float,
    progress: Callable[[str], None] = lambda text: None,
) -> list[ServeApp]:
    """Declare the applications and wait until each one runs.

    Args:
        cluster: The cluster to deploy to.
        config: What `read_serve_config` returned.
        timeout_s: Seconds to wait at most.
        progress: Told which applications run so far.

    Raises:
        AppFailed: When one of them fails, with its own message, or when the time is over.
        ClusterUnreachable: When the dashboard stays silent.
        ServeConfigRefused: When Serve does not accept the configuration.
    """
    names = {app["name"] for app in config["applications"]}
    _patiently(lambda: cluster.put_serve_config(config))
    deadline = time.monotonic() + timeout_s
    while True:
        apps = [app for app in _patiently(cluster.serve_apps) if app.name in names]
        running = sorted(app.name for app in apps if app.status == "RUNNING")
        if len(running) == len(names):
            return apps
        _refuse_failed(apps)
        if time.monotonic() > deadline:
            missing = ", ".join(sorted(names - set(running)))
            raise AppFailed(f"Not running after {timeout_s:.0f} s: {missing} ('raymill logs APP' shows why).")
        progress(", ".join(running))
        time.sleep(POLL_S)


def _patiently(ask: Callable[[], Answer]) -> Answer:
    unreachable = retry_if_exception_type(ClusterUnreachable)
    attempts = Retrying(stop=stop_after_delay(SILENCE_S), wait=wait_fixed(POLL_S), retry=unreachable, reraise=True)
    answer: Answer = attempts(ask)
    return answer


def _refuse_failed(apps: list[ServeApp]) -> None:
    for app in apps:
        if app.status in FAILED:
            raise AppFailed(f"The application '{app.name}' failed to start: {_last_sentence(app.message)}")


def _last_sentence(message: str) -> str:
    """The line that names the error: the last one of the traceback inside Serve's message."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else "Serve gave no reason."


__all__ = ["AppFailed", "AppsFileUnusable", "apps_file", "deploy", "read_serve_config"]
