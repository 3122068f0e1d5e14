"""Facts about the Ray cluster, from its dashboard's REST interface; Ray itself is not imported.

A dashboard with token authentication wants the token as a bearer (Ray 2.60, `ray-security/token-auth`).
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..kernel.errors import ExternalServiceError
from ..kernel.settings import Settings

UNFINISHED = frozenset({"PENDING", "RUNNING"})
ALIVE = "ALIVE"


class ClusterUnreachable(ExternalServiceError):
    """Raised when the Ray dashboard does not answer or refuses us."""


class ServeConfigRefused(ExternalServiceError):
    """Raised when Ray Serve does not accept a configuration."""


@dataclass(frozen=True)
class ClusterNode:
    """One machine or pod of the cluster."""

    id: str
    address: str
    state: str
    is_head: bool
    resources: dict[str, float]


@dataclass(frozen=True)
class ClusterJob:
    """One Ray job; `submission_id` is None for a driver that connected by itself."""

    submission_id: str | None
    status: str
    message: str


@dataclass(frozen=True)
class Replica:
    """One process of a Serve deployment."""

    deployment: str
    state: str
    pid: int | None
    node_ip: str | None


@dataclass(frozen=True)
class ServeApp:
    """One Serve application as Serve sees it."""

    name: str
    status: str
    message: str
    route_prefix: str | None
    replicas: list[Replica] = field(default_factory=list)


def dashboard_url(settings: Settings) -> str:
    """URL of the Ray dashboard that the settings mean, without a trailing slash."""
    ray = settings.ray
    if ray.dashboard_url:
        return ray.dashboard_url.rstrip("/")
    if ray.address is None:
        return f"http://127.0.0.1:{ray.dashboard_port}"
    parts = urlsplit(ray.address if "://" in ray.address else f"//{ray.address}")
    if parts.scheme in {"http", "https"}:
        return ray.address.rstrip("/")
    return f"http://{parts.hostname}:{ray.dashboard_port}"


def token_file(settings: Settings) -> Path:
    """File that holds the token of the Ray cluster."""
    return settings.ray.token_file or settings.home / "ray" / "token"


class Cluster:
    """A client of one Ray dashboard; use it as a context manager."""

    def __init__(
        self, url: str, token: str | None, *, timeout_s: float = 10.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Make a client; no connection is made yet."""
        self.url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(
            base_url=url, headers=headers, timeout=timeout_s, trust_env=False, transport=transport
        )

    @classmethod
    def connect(cls, settings: Settings, *, timeout_s: float = 10.0) -> "Cluster":
        """Make a client of the cluster that the settings mean."""
        return cls(dashboard_url(settings), _token(settings), timeout_s=timeout_s)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def is_up(self) -> bool:
        """Tell whether the dashboard answers us."""
        try:
            self.version()
        except ClusterUnreachable:
            return False
        return True

    def version(self) -> dict[str, Any]:
        """Ray's version and the name of the session."""
        return self.call("GET", "/api/version")

    def cluster_id(self) -> str:
        """The id that the GCS gave this cluster, in hexadecimal; a new cluster has another."""
        return str(self.call("GET", "/cluster_id")["data"]["clusterId"])

    def nodes(self) -> list[ClusterNode]:
        """Every node that the cluster knows, dead ones included."""
        answer = self.call("GET", "/api/v0/nodes", params={"limit": 10_000})
        return [
            ClusterNode(row["node_id"], row["node_ip"], row["state"], row["is_head_node"], row["resources_total"] or {})
            for row in answer["data"]["result"]["result"]
        ]

    def jobs(self) -> list[ClusterJob]:
        """Every Ray job that the cluster remembers."""
        rows: Any = self.call("GET", "/api/jobs/")
        return [ClusterJob(row["submission_id"], row["status"], row["message"] or "") for row in rows]

    def stop_job(self, submission_id: str) -> None:
        """Ask Ray to end a job: SIGTERM, and SIGKILL three seconds later."""
        self.send("POST", f"/api/jobs/{submission_id}/stop")

    def serve_apps(self) -> list[ServeApp]:
        """Every Serve application, static and dynamic."""
        answer = self.call("GET", "/api/serve/applications/")
        return [_serve_app(name, row) for name, row in answer["applications"].items()]

    def put_serve_config(self, config: dict[str, Any]) -> None:
        """Make `config` the declared state of Serve; returns before the applications run.

        Raises:
            ServeConfigRefused: When Serve does not accept it.
            ClusterUnreachable: If the dashboard does not answer, or fails itself.
        """
        answer = self.send("PUT", "/api/serve/applications/", json=config, timeout=120.0)
        if answer.is_server_error:
            self.check(answer)
        if answer.is_error:
            raise ServeConfigRefused(f"Ray Serve refused the applications: {answer.text.strip()[:500]}")

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Return the dashboard's JSON answer.

        Raises:
            ClusterUnreachable: If it does not answer or answers with an error.
        """
        answer = self.send(method, path, **options)
        self.check(answer)
        document: dict[str, Any] = answer.json()
        return document

    def check(self, answer: httpx.Response) -> None:
        """Accept an answer of the dashboard.

        Raises:
            ClusterUnreachable: If it is an error.
        """
        if answer.is_error:
            raise ClusterUnreachable(_refusal(self.url, answer))

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the dashboard's answer, whatever its status.

        Raises:
            ClusterUnreachable: If it does not answer.
        """
        try:
            return self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ClusterUnreachable(f"The Ray dashboard at {self.url} does not answer ({error}).") from error


def _token(settings: Settings) -> str | None:
    if settings.ray.token is not None:
        return settings.ray.token.get_secret_value()
    path = token_file(settings)
    return path.read_text().strip() if path.exists() else None


def _refusal(url: str, answer: httpx.Response) -> str:
    if answer.status_code in {401, 403}:
        return f"The Ray dashboard at {url} refuses our token (HTTP {answer.status_code})."
    return f"The Ray dashboard at {url} answered HTTP {answer.status_code}: {answer.text.strip()[:200]}"


def _serve_app(name: str, row: dict[str, Any]) -> ServeApp:
    replicas = [
        Replica(deployment, replica["state"], replica.get("pid"), replica.get("node_ip"))
        for deployment, details in row.get("deployments", {}).items()
        for replica in details.get("replicas", [])
    ]
    return ServeApp(name, row["status"], row.get("message") or "", row.get("route_prefix"), replicas)


__all__ = [
    "ALIVE",
    "UNFINISHED",
    "Cluster",
    "ClusterJob",
    "ClusterNode",
    "ClusterUnreachable",
    "Replica",
    "ServeApp",
    "ServeConfigRefused",
    "dashboard_url",
    "token_file",
]
