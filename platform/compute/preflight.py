"""What the cluster's environment lacks for the platform to run as it should, and what each lack costs.

Every process of a Ray cluster has the environment of ``ray start``, which Ray shows to nobody. A tiny Ray job on the
head says which variables it sees; it needs no Python and prints no secret.
"""

import shlex
import time
from dataclasses import dataclass
from uuid import uuid4

import httpx

from ..kernel.errors import ExternalServiceError
from ..kernel.settings import Settings
from .cluster import ALIVE, UNFINISHED, Cluster, dashboard_url
from .serve_environment import serve_environment

HA_PROXY = "RAY_SERVE_ENABLE_HA_PROXY"
WITHIN_S = 60.0
_POLL_S = 0.2
_STOPPED_WITHIN_S = 5.0
_CONFIG = "config.json"
_SHARED_PATH = "two clusters on one machine take each other's HAProxy for their own"
_PORT = "Ray Serve uses its own default port, whatever RAYMILL_HTTP__… says"
_EDGE_PORTS = "replicas take Ray's default ports, which a firewall may not expect"

COSTS = {
    "RAYMILL_DATABASE__URL": "no database: the api and the controller do not start",
    "RAYMILL_REDIS__URL": "no cache: no app starts but the console",
    "RAYMILL_STORAGE__URL": "objects lie in the head's home; refused as soon as the cluster has a second node",
    "RAYMILL_HOME": "keys, caches and copies lie in ~/.raymill of whoever started Ray",
    HA_PROXY: "Ray's Python proxy answers: a sixth to a twentieth of the requests per second",
    "RAY_SERVE_HAPROXY_BINARY_PATH": (
        "clients' addresses are lost, forged ones are believed, and /-/routes lists the applications to everybody"
    ),
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "half of the requests per second",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": (
        "Ray Serve's own errors are plain text, and a slow upload is held in memory"
    ),
    "FORWARDED_ALLOW_IPS": "X-Forwarded-For from the machine itself is believed",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "a dead proxy is replaced after half a minute, not after two seconds",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "on a loaded machine the proxy is restarted before it is ready",
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": _SHARED_PATH,
    "RAY_SERVE_HAPROXY_SOCKET_PATH": _SHARED_PATH,
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": _SHARED_PATH,
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": _SHARED_PATH,
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": _SHARED_PATH,
    "RAY_SERVE_HAPROXY_NBTHREAD": "HAProxy uses four threads, however many CPUs there are",
    "RAY_SERVE_HAPROXY_STATS_PORT": _PORT,
    "RAY_SERVE_HAPROXY_METRICS_PORT": _PORT,
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "each request is logged and parsed once more, in Python",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "an answer that takes longer than Ray's default is cut off",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": _PORT,
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": _PORT,
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": _EDGE_PORTS,
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": _EDGE_PORTS,
    "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": _EDGE_PORTS,
    "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": _EDGE_PORTS,
}
# What matters on several nodes alone; the second behind HAProxy alone.
KEYS_DIR, HOST = "RAYMILL_KEYS_DIR", "RAYMILL_HTTP__HOST"
COSTS_OF_NODES = {
    KEYS_DIR: "each node would have signing keys of its own, and apps refuse to start unless the keys are the same",
    HOST: "HAProxy listens on each node's loopback: jobs on other nodes do not reach the platform",
}
_NO_AUTH = "Ray asks for no token: whoever reaches a port of the cluster runs code on it"
# What config.json may say in the place of a variable.
_IN_FILE = frozenset({"RAYMILL_DATABASE__URL", "RAYMILL_REDIS__URL", "RAYMILL_STORAGE__URL", KEYS_DIR, HOST})


class HeadNotAsked(ExternalServiceError):
    """Raised when the job that looks at the head's environment does not end well."""


@dataclass(frozen=True)
class Lack:
    """A variable that the cluster's environment does not have, and what that costs."""

    variable: str
    cost: str


def lacks(settings: Settings, cluster: Cluster, *, within_s: float = WITHIN_S) -> list[Lack]:
    """Return what the environment of the cluster's head lacks, the gravest first.

    Args:
        settings: Say which cluster it is, and what it should have.
        cluster: The cluster.
        within_s: Seconds that the head may take to answer.

    Raises:
        ClusterUnreachable: If the cluster does not answer.
        HeadNotAsked: If the head cannot be asked.
    """
    seen = _ask(cluster, [*COSTS, *COSTS_OF_NODES], within_s)
    in_file = _IN_FILE if _CONFIG in seen else frozenset()
    wanted = _IN_FILE | serve_environment(settings).keys()
    costs = {name: cost for name, cost in COSTS.items() if name in wanted}
    costs |= _costs_of_nodes(settings, cluster, behind_haproxy=_is_given(HA_PROXY, seen))
    found = [Lack(name, cost) for name, cost in costs.items() if name not in in_file and not _is_given(name, seen)]
    return found if _asks_for_token(settings) else [Lack("RAY_AUTH_MODE", _NO_AUTH), *found]


def _costs_of_nodes(settings: Settings, cluster: Cluster, *, behind_haproxy: bool) -> dict[str, str]:
    if sum(node.state == ALIVE for node in cluster.nodes()) < 2:
        return {}
    reachable = settings.http.jobs_url or settings.http.public_url or not behind_haproxy
    return {name: cost for name, cost in COSTS_OF_NODES.items() if name != HOST or not reachable}


def _is_given(name: str, seen: dict[str, str]) -> bool:
    if name == HA_PROXY:
        return seen.get(name, "0").lower() in {"1", "true"}
    return name in seen


def _asks_for_token(settings: Settings) -> bool:
    with Cluster(dashboard_url(settings), None, timeout_s=5.0) as stranger:
        return stranger.send("GET", "/api/jobs/").status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}


def _ask(cluster: Cluster, names: list[str], within_s: float) -> dict[str, str]:
    """Return which variables the head sees; the values of Ray's own with them."""
    job = f"raymill-preflight-{uuid4().hex[:8]}"
    cluster.call("POST", "/api/jobs/", json={"submission_id": job, "entrypoint": script(names)})
    try:
        return variables_in(_printed_by(cluster, job, within_s))
    finally:
        _forget(cluster, job)


def _printed_by(cluster: Cluster, job: str, within_s: float) -> str:
    deadline = time.monotonic() + within_s
    while (row := cluster.call("GET", f"/api/jobs/{job}"))["status"] in UNFINISHED:
        if time.monotonic() > deadline:
            raise HeadNotAsked(f"The Ray job {job} on the head is still {row['status']} after {within_s:.0f} s.")
        time.sleep(_POLL_S)
    if row["status"] != "SUCCEEDED":
        raise HeadNotAsked(f"The Ray job {job} on the head is {row['status']}: {row['message']}")
    printed: str = cluster.call("GET", f"/api/jobs/{job}/logs")["logs"]
    return printed


def _forget(cluster: Cluster, job: str) -> None:
    """Leave nothing of the job behind; Ray deletes what has ended, which one that is stopped does within seconds."""
    cluster.stop_job(job)
    deadline = time.monotonic() + _STOPPED_WITHIN_S
    while cluster.send("DELETE", f"/api/jobs/{job}").is_error and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def variables_in(printed: str) -> dict[str, str]:
    """Read what the script printed; other lines are Ray's."""
    known = {*COSTS, *COSTS_OF_NODES, _CONFIG}
    lines = (line.partition("=") for line in printed.splitlines())
    return {name: value for name, _, value in lines if name in known}


def script(names: list[str]) -> str:
    """Return a line of shell that prints the names of the variables that are set, with the values of Ray's own."""
    words = shlex.join(names)
    return (
        f"for name in {words}; do if value=$(printenv $name); then "
        "case $name in RAY_*) echo $name=$value;; *) echo $name=;; esac; fi; done; "
        f'test ! -e "${{RAYMILL_CONFIG_FILE:-${{RAYMILL_HOME:-$HOME/.raymill}}/{_CONFIG}}}" || echo {_CONFIG}='
    )


__all__ = ["COSTS", "HeadNotAsked", "Lack", "lacks", "script", "variables_in"]
