"""The environment of ``ray start`` and the options of ``serve start``, all derived from the settings.

Ray Serve reads these variables when its processes start; every process of the cluster inherits them.
"""

import os
from typing import Any

from ..kernel.settings import Settings
from .haproxy.install import haproxy_folder, is_single_node

EDGE_CALLBACK = "raymill.compute.edge:middlewares"


def serve_environment(settings: Settings) -> dict[str, str]:
    """Return what ``ray start`` must see so that Ray Serve follows the settings."""
    return _common(settings) | (_haproxy(settings) if settings.http.proxy == "haproxy" else _python_proxy())


def of_joined_cluster(settings: Settings) -> Settings:
    """Return the settings of a cluster that the operator starts, which may have several nodes."""
    if settings.ray.address is not None:
        return settings
    return settings.model_copy(update={"ray": settings.ray.model_copy(update={"address": "auto"})})


def serve_http_options(settings: Settings) -> dict[str, Any]:
    """Return ``http_options`` of the Serve config: with HAProxy the host is what replicas bind, not the public one."""
    if settings.http.proxy == "python":
        host = settings.http.host
    else:
        host = "127.0.0.1" if is_single_node(settings) else "0.0.0.0"  # noqa: S104
    return {"host": host, "port": settings.http.port}


def _common(settings: Settings) -> dict[str, str]:
    config_file = {"RAYMILL_CONFIG_FILE": str(settings.config_file)} if settings.config_file else {}
    return config_file | {
        "RAYMILL_HOME": str(settings.home),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": EDGE_CALLBACK,
        # uvicorn would believe X-Forwarded-For from loopback, before the edge sees who connected.
        "FORWARDED_ALLOW_IPS": "",
        # Three checks in a row must fail before a dead proxy is replaced.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.5",
        # A loaded machine needs more than the default of 5 s to import Serve; a restart only starts over.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
    }


def _python_proxy() -> dict[str, str]:
    return {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}


def _haproxy(settings: Settings) -> dict[str, str]:
    http, folder = settings.http, haproxy_folder(settings)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(folder / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "c"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "s"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "t"),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(http.stats_port),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(http.metrics_port),
        # One line per request, parsed in Python: the platform counts its requests itself.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "3600",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(http.fallback_port),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(http.fallback_grpc_port),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http.replica_ports[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http.replica_ports[1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(http.replica_grpc_ports[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(http.replica_grpc_ports[1]),
        **_draining(settings),
    }


def _draining(settings: Settings) -> dict[str, str]:
    """Let a replica of the one machine go soon: its only proxy hears of the change within a second."""
    return {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5"} if is_single_node(settings) else {}


__all__ = ["EDGE_CALLBACK", "of_joined_cluster", "serve_environment", "serve_http_options"]
