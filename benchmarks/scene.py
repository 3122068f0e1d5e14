"""What benchmarks of predictions begin with: a platform with the demo's model, and other servers of the same file."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from load import Target
from own_platform import (
    OwnPlatform,
    digits_body,
    digits_deployment,
    download_model,
    free_ports,
    predict_url,
    running_platform,
)
from rounds import System

from raymill.sdk import Client
from raymill.sdk.credentials import StoredCredential
from raymill.sdk.deployments import Deployment
from servers import installed_version, own_python, running_server

OWN = "raymill"
# Of the endpoint and of each caller: never reached, but counted.
LIMITS = {"requests_per_s": 100_000, "per_caller_per_s": 100_000}


@dataclass(frozen=True)
class Scene:
    """A running platform, its demo's deployment, and the files that a benchmark sends."""

    platform: OwnPlatform
    client: Client
    folder: Path
    deployment: Deployment
    model: Path
    body: Path
    credential: Path

    def own(self, url: str | None = None, name: str = OWN) -> System:
        """Return the platform as a system under load, at the users' own URL of the deployment or another."""
        target = Target(url or self.url(), self.body, self.credential)
        return System(name, version("raymill"), target, self.platform.data_plane)

    def url(self, deployment: Deployment | None = None) -> str:
        """Return the URL that answers predictions of a deployment, or of the demo's."""
        return predict_url(StoredCredential(self.platform.home), deployment or self.deployment)

    @contextmanager
    def fastapi(self) -> Iterator[System]:
        """Run FastAPI on uvicorn with the same model until the block ends."""
        with self._server("fastapi", sys.executable, version("fastapi"), "/predict") as system:
            yield system

    @contextmanager
    def other(self, package: str, path: str = "/predict") -> Iterator[System]:
        """Run another model server from PyPI with the same model until the block ends."""
        python = own_python(package)
        with self._server(package, python, installed_version(python, package), path) as system:
            yield system

    @contextmanager
    def _server(self, name: str, python: str, shown: str, path: str) -> Iterator[System]:
        (port,) = free_ports(1)
        nothing = self.folder / "no.credential"
        nothing.write_text("")
        with running_server(python, f"{name}_server.py", self.model, port, self.folder / f"{name}.log") as process:
            target = Target(f"http://127.0.0.1:{port}{path}", self.body, nothing)
            yield System(name, shown, target, lambda: [process, *process.children(recursive=True)])


@contextmanager
def running_scene(**settings: str) -> Iterator[Scene]:
    """Bring a platform up with the demo's deployment, its limits on, and these settings until the block ends."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rm-bench-")))
        platform = stack.enter_context(running_platform(**settings))
        client = stack.enter_context(platform.client())
        deployment = client.deployments.update(digits_deployment(client).id, rate_limit=LIMITS)
        client.deployments.wait_until_ready(deployment.id)
        credential = folder / "raymill.credential"
        credential.write_text(StoredCredential(platform.home).headers()["Authorization"])
        model = download_model(client, deployment, folder)
        yield Scene(platform, client, folder, deployment, model, digits_body(folder), credential)
