"""A platform for the benchmark: on free ports, in a home of its own, with the demo's model deployed."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from load import BenchmarkFailed
from pyarrow import parquet
from sklearn.datasets import load_digits

from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.kernel.settings import Settings
from raymill.sdk import Client
from raymill.sdk.credentials import StoredCredential
from raymill.sdk.deployments import Deployment

APPS = Path(__file__).parents[1] / "apps.yaml"
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


@dataclass(frozen=True)
class OwnPlatform:
    """A running platform."""

    home: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> None:
        """Run the raymill command.

        Raises:
            BenchmarkFailed: With the end of what it printed, if it fails.
        """
        done = subprocess.run(
            [sys.executable, "-m", "raymill.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchmarkFailed(f"raymill {arguments[0]} failed: {done.stdout[-1500:]}{done.stderr[-1500:]}")

    def client(self) -> Client:
        """Return a client with the administrator's login."""
        return Client.from_home(self.home)

    def data_plane(self) -> list[psutil.Process]:
        """Return the processes that carry a prediction: the inference replica and HAProxy."""
        proxies = [one for one, title in self._titles() if Path(title).name == "haproxy"]
        if not proxies:
            raise BenchmarkFailed("Found no process of HAProxy.")
        return [self.replica("inference"), *proxies]

    def replica(self, app: str) -> psutil.Process:
        """Return the process of the only replica of an app of Ray Serve."""
        replicas = [one for one, title in self._titles() if title.startswith(f"ray::ServeReplica:{app}:")]
        if len(replicas) != 1:
            raise BenchmarkFailed(f"Found {len(replicas)} replicas of {app}, not 1.")
        return replicas[0]

    def _titles(self) -> list[tuple[psutil.Process, str]]:
        return [(one, _title(one)) for one in EmbeddedRay(Settings(home=self.home)).find_processes()]


def _title(process: psutil.Process) -> str:
    try:
        return next(iter(process.cmdline()), "")
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def running_platform(*, apps: Path = APPS, demo: bool = True, **settings: str) -> Iterator[OwnPlatform]:
    """Bring a platform up with these settings, and the demo's deployment if need be, and take it down at the end."""
    home = Path(tempfile.mkdtemp(prefix="rm-bench-"))
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    given = {f"RAYMILL_{name}": value for name, value in (ports | settings).items()}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAYMILL_", "RAY_"))}
    platform = OwnPlatform(home, {**inherited, **given, "RAYMILL_HOME": str(home)})
    try:
        print("raymill up", flush=True)
        platform.command("up", "--apps", str(apps))
        if demo:
            print("raymill demo", flush=True)
            platform.command("demo")
        yield platform
    finally:
        try:
            platform.command("down")
        finally:
            # As root the database's folder lies outside of home.
            EmbeddedPostgres(home / "postgres").destroy()
            shutil.rmtree(home, ignore_errors=True)


def logged_rows(platform: OwnPlatform, project_id: str) -> int:
    """Return how many rows of the project's inference log have been written."""
    files = (platform.home / "objects").glob(f"**/{project_id}/inference-log/*/*.parquet")
    return sum(parquet.read_metadata(file).num_rows for file in files)


def digits_deployment(client: Client) -> Deployment:
    """Return the demo's deployment."""
    return next(found for found in client.deployments.list() if found.name == "digits")


def download_model(client: Client, deployment: Deployment, folder: Path) -> Path:
    """Fetch the ONNX file that the deployment serves."""
    model = client.models.from_name("digits", project_id=deployment.project_id)
    version = next(iter(client.models.versions(model.id)))
    path = next(artifact.path for artifact in version.artifacts if artifact.path.endswith(".onnx"))
    client.models.download_artifact(model.id, version.version, path, folder / "model.onnx")
    return folder / "model.onnx"


def digits_body(folder: Path) -> Path:
    """Write a request with one row of the demo's data."""
    row = ", ".join(str(value) for value in load_digits().data[0].tolist())
    body = folder / "body.json"
    body.write_text(f'{{"instances": [[{row}]]}}')
    return body


def predict_url(login: StoredCredential, deployment: Deployment) -> str:
    """Return the URL that answers predictions."""
    endpoint = deployment.endpoint
    return f"{endpoint if endpoint.startswith('http') else login.base_url + endpoint}/predict"


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
