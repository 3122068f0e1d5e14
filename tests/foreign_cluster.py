"""A Ray cluster that `raymill up` did not start: by the guide's own commands, on free ports, in a home of its own."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from guides import block
from raymill.compute.cluster import Cluster
from servers import free_ports, inherited, start_databases
from timing import until

ROOT = Path(__file__).parents[1]
MARK = "RM_FOREIGN_TEST"
TOKEN = Path(".ray") / "auth_token"


GUIDE = "existing-cluster"


def guide_block(words: str) -> str:
    """The one block of commands in the guide that holds these words."""
    return block(GUIDE, words)


@dataclass
class ForeignCluster:
    """The cluster, its ports and how a test gives it commands."""

    folder: Path
    environment: dict[str, str]
    ports: dict[str, int]
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def url(self) -> str:
        """Where the platform answers."""
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def dashboard(self) -> str:
        """Where Ray's dashboard answers."""
        return f"http://127.0.0.1:{self.ports['dashboard']}"

    def shell(self, script: str, *, node: str | None = None, check: bool = True, **variables: str) -> str:
        """Run commands of the guide as an operator would, on a node with a home of its own if one is named."""
        home = {"RAYMILL_HOME": str(self.folder / node)} if node else {}
        done = subprocess.run(
            ["bash", "-ec", script],
            env=self.environment | {MARK: self.mark} | home | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def client(self) -> Cluster:
        """Return a client of the dashboard."""
        return Cluster(self.dashboard, (self.folder / TOKEN).read_text().strip())

    def start_head(self, exports: str = "", *options: str, **variables: str) -> None:
        """Start the head, after the guide's blocks about its environment."""
        wanted = [
            *(f"--port={self.ports['gcs']}", f"--dashboard-port={self.ports['dashboard']}"),
            f"--ray-client-server-port={self.ports['client']}",
            *self._node_options(0),
            *options,
        ]
        token, start = guide_block("get-auth-token"), guide_block("ray start --head").splitlines()[0]
        self.shell("\n".join([token, exports, f"{start} {' '.join(wanted)}"]), **variables)
        with self.client() as cluster:
            until(cluster.is_up, within_s=30, what="the dashboard answers")

    def join(self, number: int, *options: str, **variables: str) -> None:
        """Start a further node."""
        wanted = [f"--address=127.0.0.11:{self.ports['gcs']}", *self._node_options(number), *options]
        variables = {"RAY_AUTH_MODE": "token", **variables}
        self.shell(f"ray start {' '.join(wanted)}", node=f"node-{number}", **variables)

    def _node_options(self, number: int) -> Sequence[str]:
        lowest = 12_000 + 300 * number + 1000 * (os.getpid() % 5)
        return (
            f"--node-ip-address=127.0.0.{11 + number}",
            # Of Ray's default port an agent on the same machine would only get the first.
            f"--dashboard-agent-listen-port={self.ports[f'agent-{number}']}",
            *(f"--min-worker-port={lowest}", f"--max-worker-port={lowest + 290}"),
            *("--object-store-memory=100000000", "--disable-usage-stats", "--include-log-monitor=false"),
        )

    def open_door(self) -> None:
        """Start Serve on the test's own ports, as an operator may; what `serve deploy` says of ports is then late."""
        grpc = yaml.safe_load((ROOT / "apps.yaml").read_text())["grpc_options"] | {"port": self.ports["grpc"]}
        http = {"host": "0.0.0.0", "port": self.ports["http"]}  # noqa: S104
        config = {"http_options": http, "grpc_options": grpc, "applications": []}
        with self.client() as cluster:
            cluster.put_serve_config(config)

    def await_apps(self, within_s: float = 120.0) -> None:
        """Wait until every application runs and the door is ready."""
        with self.client() as cluster:

            def running() -> bool:
                apps = cluster.serve_apps()
                failed = [app.message for app in apps if app.status == "DEPLOY_FAILED"]
                assert not failed, failed[0]
                return len(apps) >= 4 and all(app.status == "RUNNING" for app in apps)

            until(running, within_s=within_s, what="the applications run")
        until(self._is_ready, within_s=30, what="the door is ready")

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def log_in(self) -> None:
        """Log the command line in as the administrator, as the guide says."""
        printed = self.shell(guide_block("reset-password"), node="node-0")
        password = dict(line.split(": ") for line in printed.splitlines())["password"]
        login = guide_block("raymill login").splitlines()[0].replace("http://127.0.0.1:8000", self.url)
        self.shell(login, node="node-0", RAYMILL_PASSWORD=password)

    def status(self) -> dict[str, Any]:
        """What `raymill status --json` says."""
        command = guide_block("raymill status").strip()
        document: dict[str, Any] = json.loads(self.shell(f"{command} --json", RAY_ADDRESS=self.dashboard))
        return document

    def processes(self) -> list[psutil.Process]:
        """Every process that was started for this cluster."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self.mark]


def _mark_of(process: psutil.Process) -> str | None:
    with suppress(psutil.Error):
        return process.environ().get(MARK)
    return None


@contextmanager
def foreign_cluster() -> Iterator[ForeignCluster]:
    """Databases and the environment of a cluster that is not started yet; all of it ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    database_url, redis_url, stop = start_databases(folder / "databases")
    names = ("gcs", "dashboard", "client", "http", "grpc", "agent-0", "agent-1", "agent-2")
    cluster = ForeignCluster(folder, {}, dict(zip(names, free_ports(len(names)), strict=True)))
    kept = inherited()
    cluster.environment = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "RAY_TMPDIR": str(folder),
        "RAYMILL_DATABASE__URL": database_url,
        "RAYMILL_REDIS__URL": redis_url,
        "RAYMILL_STORAGE__URL": f"file://{folder}/objects",
        "RAY_DASHBOARD_ADDRESS": cluster.dashboard,
        "RAY_AUTH_MODE": "token",
    }
    try:
        yield cluster
    finally:
        for process in cluster.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        until(lambda: not cluster.processes(), within_s=20, what="the cluster's processes are gone")
        stop()
        shutil.rmtree(folder, ignore_errors=True)
