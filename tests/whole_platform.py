"""A whole platform for the end-to-end tests, brought up by the command, with two inference replicas."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from raymill.sdk import Client
from raymill.sdk.deployments import Deployment
from raymill.sdk.models import ModelVersion
from servers import platform_environment, remove_platform
from small_disk import mount, unmount

ROOT = Path(__file__).parents[1]
DISK_BYTES = 2 * 2**30


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
        assert not check or done.returncode == 0, done.stdout + done.stderr + self.last_words()
        return done

    def last_words(self) -> str:
        """Return the ends of the logs that tell why Ray does not answer."""
        logs = [self.home / "logs" / "ray.log", *(self.home / "r" / "session_latest" / "logs").glob("dashboard*.log")]
        ends = {log: log.read_text(errors="replace").splitlines()[-20:] for log in logs if log.exists()}
        return "".join(f"\n== {log.name}\n" + "\n".join(lines) for log, lines in ends.items())

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
    # A disk of its own where that may be, so that a test can fill it.
    mount(home, size_bytes=DISK_BYTES)
    config = yaml.safe_load((ROOT / "apps.yaml").read_text())
    for app in config["applications"]:
        if app["name"] == "inference":
            app["args"]["num_replicas"] = 2
    apps = home / "apps.yaml"
    apps.write_text(yaml.safe_dump(config))
    running = Platform(home=home, environment=platform_environment(home), apps=apps)
    try:
        running.up()
        yield running
    finally:
        running.command("down", check=False)
        remove_platform(home)
        unmount(home)
        shutil.rmtree(home, ignore_errors=True)
