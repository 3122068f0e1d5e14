"""A Ray cluster of its own with the real HAProxy behind the wrapper."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

import timing
from raymill.compute.haproxy.install import install_wrapper
from raymill.compute.serve_environment import serve_environment, serve_http_options
from raymill.kernel.settings import HttpSettings, RaySettings, Settings
from servers import free_ports, inherited

T = TypeVar("T")


@dataclass(frozen=True)
class EdgeCluster:
    """A running cluster and what a test asks of it."""

    settings: Settings
    session: int

    @property
    def url(self) -> str:
        return self.settings.http.base_url

    def processes(self) -> list[psutil.Process]:
        """The processes of the cluster: all of its session."""
        return [process for process in psutil.process_iter() if _session_of(process) == self.session]

    def haproxies(self) -> list[psutil.Process]:
        return [process for process in self.processes() if process.name() == "haproxy"]


def _session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def replica_is_up(settings: Settings, app: str) -> bool:
    """Say whether HAProxy sends requests straight to a replica of the app (before that they take Serve's fallback)."""
    rows = httpx.get(f"http://127.0.0.1:{settings.http.stats_port}/stats;csv").text.splitlines()
    return any(row.startswith(f"http-{app},SERVE_REPLICA") and ",UP," in row for row in rows)


def until(probe: Callable[[], T], deadline_s: float = 10.0) -> T:
    """Return the first true result of the probe; its network errors count as false."""

    def quiet() -> T | None:
        try:
            return probe()
        except httpx.TransportError:
            return None

    found = timing.until(quiet, within_s=deadline_s)
    assert found is not None
    return found


@contextmanager
def running_cluster() -> Iterator[EdgeCluster]:
    """Start a cluster with the test apps at /api and /narrow, and end every process of it."""
    home = Path(tempfile.mkdtemp(prefix="h-edge-", dir="/tmp"))
    settings = _settings(home)
    token = secrets.token_hex(32)
    head = _start_ray(settings, token)
    cluster = EdgeCluster(settings, head.pid)
    try:
        _deploy(settings, token)
        yield cluster
    finally:
        _end(cluster)
        shutil.rmtree(home, ignore_errors=True)


def _settings(home: Path) -> Settings:
    names = ("port", "grpc_port", "stats_port", "fallback_port", "fallback_grpc_port", "metrics_port")
    ray_names = ("gcs_port", "dashboard_port", "dashboard_agent_port", "client_port")
    ports = free_ports(len(names) + len(ray_names))
    http = HttpSettings(**dict(zip(names, ports, strict=False)), replica_ports=(31100, 31199))
    return Settings(home=home, http=http, ray=RaySettings(**dict(zip(ray_names, ports[len(names) :], strict=True))))


def _start_ray(settings: Settings, token: str) -> subprocess.Popen[bytes]:
    install_wrapper(settings)
    ray = settings.ray
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"),
        *("--num-cpus=2", "--object-store-memory=100000000", "--include-log-monitor=false"),
        *("--node-ip-address=127.0.0.1", f"--temp-dir={settings.home / 'r'}", f"--port={ray.gcs_port}"),
        *(f"--dashboard-port={ray.dashboard_port}", f"--ray-client-server-port={ray.client_port}"),
        f"--dashboard-agent-listen-port={ray.dashboard_agent_port}",
    ]
    environment = inherited() | serve_environment(settings)
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "PYTHONPATH": str(Path(__file__).parent)}
    with (settings.home / "ray.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def _deploy(settings: Settings, token: str) -> None:
    names = {"edge": ("/api", "edge_app:wide"), "narrow": ("/narrow", "edge_app:narrow")}
    config = {
        "http_options": serve_http_options(settings),
        "applications": [
            {"name": name, "route_prefix": prefix, "import_path": path} for name, (prefix, path) in names.items()
        ],
    }
    dashboard = httpx.Client(
        base_url=f"http://127.0.0.1:{settings.ray.dashboard_port}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    until(lambda: dashboard.get("/api/version").is_success, 60)
    assert dashboard.put("/api/serve/applications/", json=config).is_success
    for name in names:
        until(lambda name=name: replica_is_up(settings, name), 90)


def _end(cluster: EdgeCluster) -> None:
    for process in cluster.processes():
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    until(lambda: not [process for process in cluster.processes() if process.status() != psutil.STATUS_ZOMBIE])
