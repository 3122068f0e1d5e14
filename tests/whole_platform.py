"""A whole platform for the end-to-end tests, brought up by the command, with two inference replicas."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raymill.sdk import Client
from raymill.sdk.deployments import Deployment
from raymill.sdk.models import ModelVersion

ROOT = Path(__file__).parents[1]
PORTS = (
    "HTTP__PORT",
    "HTTP__GRPC_PORT",
    "HTTP__STATS_PORT",
    "HTTP__FALLBACK_PORT",
    "HTTP__FALLBACK_GRPC_PORT",
    "HTTP__METRICS_PORT",
    "RAY__GCS_PORT",
    "RAY__DASHBOARD_PORT",
    "RAY__DASHBOARD_AGENT_PORT",
    "RAY__CLIENT_PORT",
)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]


def until(probe: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """Return the first true answer of the probe, or fail after the deadline."""
    deadline = time.monotonic() + within_s
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)
    return answer


@dataclass
class Platform:
    """A running platform and how a test drives it."""

    home: Path
    environment: dict[str, str]
    apps: Path

    @property
    def url(self) -> str:
        """Where the platform answers."""
        return f"http://127.0.0.1:{self.environment['RAYMILL_HTTP__PORT']}"

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the raymill command."""
        done = subprocess.run(
            [sys.executable, "-m", "raymill.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def up(self) -> str:
        """Start what is missing."""
        return self.command("up", "--apps", str(self.apps)).stdout

    def admin(self) -> Client:
        """Return a client with the administrator's kept login."""
        return Client.from_home(self.home)


@dataclass
class Tenant:
    """A user with a project, a trained model and its deployment."""

    client: Client
    project_id: str
    dataset_id: str
    version: ModelVersion
    deployment: Deployment


@contextmanager
def running_platform() -> Iterator[Platform]:
    """Bring a platform up on free ports in a home of its own, and take it down at the end."""
    home = Path(tempfile.mkdtemp(prefix="rm-"))
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    config = yaml.safe_load((ROOT / "apps.yaml").read_text())
    for app in config["applications"]:
        if app["name"] == "inference":
            app["args"]["num_replicas"] = 2
    apps = home / "apps.yaml"
    apps.write_text(yaml.safe_dump(config))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAYMILL_", "RAY_"))}
    given = {f"RAYMILL_{name}": str(port) for name, port in ports.items()}
    running = Platform(home=home, environment={**inherited, **given, "RAYMILL_HOME": str(home)}, apps=apps)
    try:
        running.up()
        yield running
    finally:
        running.command("down", check=False)
        shutil.rmtree(home, ignore_errors=True)
