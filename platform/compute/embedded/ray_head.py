"""The Ray head that `raymill up` starts: one node on loopback with token authentication.

`ray start --block` leads a session of its own, so the GCS, the raylet, the dashboard, Serve's replicas and HAProxy can
be found by session id. Drivers of Ray jobs lead their own sessions; those carry a mark in their environment.

When the GCS dies, Ray ends the whole head. With its tables in a Valkey, the next head is the same cluster again.
"""

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil

from ...kernel.private_files import write_whole
from ...kernel.settings import Settings
from ..cluster import UNFINISHED, Cluster, ClusterUnreachable, token_file
from ..haproxy.install import install_wrapper
from ..serve_environment import serve_environment
from . import processes
from .errors import PortTaken, StartFailed, StopFailed
from .valkey import EmbeddedValkey

# Not a RAYMILL_ name: those are settings, and jobs get them blanked.
MARK = "_RAYMILL_HEAD"
# Ray puts the machine's own address in the place of 127.0.0.1, and then dies with the network that gave it. Linux has
# all of 127.0.0.0/8 on its loopback; elsewhere Ray leaves 127.0.0.1 as it is.
NODE_ADDRESS = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
START_TIMEOUT_S = 60.0
JOB_GRACE_S = 6.0
# What ends on SIGTERM does so within half a second; Ray 2.60 itself does not end on it at all.
GRACE_S = 2.0
KEPT_SESSIONS = 3
# Ray makes sockets such as <temp>/session_2026-01-01_00-00-00_000000_1234567/sockets/dash_TaskEventsHead; 107 bytes is
# what the kernel allows.
_LONGEST_TEMP_DIR = 107 - len("/session_2026-01-01_00-00-00_000000_1234567/sockets/dash_TaskEventsHead")


class EmbeddedRay:
    """One Ray head that belongs to a home and outlives the process that started it."""

    def __init__(self, settings: Settings) -> None:
        """Describe the head of `settings.home`; nothing is started."""
        self.settings = settings
        self.folder = settings.home / "ray"
        self.log = settings.home / "logs" / "ray.log"
        self._state_path = self.folder / "head.json"
        self._tables = EmbeddedValkey(settings.home / "gcs", log=settings.home / "logs" / "gcs-valkey.log")

    @property
    def gcs_address(self) -> str:
        """Address for `ray.init`."""
        return f"{NODE_ADDRESS}:{self.settings.ray.gcs_port}"

    @property
    def temp_dir(self) -> Path:
        """Folder of Ray's sessions, below home where the paths of its sockets stay short enough."""
        folder = self.settings.home / "r"
        if len(str(folder)) <= _LONGEST_TEMP_DIR:
            return folder
        digest = hashlib.sha256(str(self.settings.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"rm-{digest}" / "r"

    @property
    def session_logs(self) -> Path:
        """Folder of the logs of the current Ray session."""
        return self.temp_dir / "session_latest" / "logs"

    def find_process(self) -> psutil.Process | None:
        """The `ray start --block` process, or None when it does not run."""
        return processes.find_recorded(self._state_path)

    def find_processes(self) -> list[psutil.Process]:
        """Every process of the cluster: session members, and whatever else was started from it."""
        state = processes.read_state(self._state_path)
        if not state:
            return []
        everything = [one for one in psutil.process_iter(["ppid"]) if processes.is_alive(one)]
        found = {one.pid for one in everything if _belongs(one, state["pid"], state["mark"])}
        found |= _descendants(found, everything)
        found -= {os.getpid(), *(one.pid for one in psutil.Process().parents())}
        return [one for one in everything if one.pid in found]

    def start(self) -> None:
        """Start the head unless it runs and answers.

        Raises:
            PortTaken: When another program listens on one of its ports.
            StartFailed: When it does not come up.
        """
        if (head := self.find_process()) is not None:
            self._await_answer(head, "runs but does not answer; run 'raymill down', then 'raymill up'")
            return
        self.clear()
        self.check_ports()
        self._prepare_folders()
        if self.settings.ray.gcs_fault_tolerance:
            self._tables.start()
        mark = secrets.token_hex(8)
        with self.log.open("ab") as log:
            child = subprocess.Popen(  # noqa: S603
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.settings.home,
                env=self._environment(mark),
            )
        identity = processes.ProcessIdentity.of(child.pid)
        processes.write_state(self._state_path, asdict(identity) | {"mark": mark})
        self._await_answer(psutil.Process(child.pid), "did not start")

    def stop(self) -> None:
        """End the jobs, then every process of the cluster; nothing else on the machine is touched.

        Raises:
            StopFailed: When a process survives SIGKILL.
        """
        if self.find_process() is not None:
            self._stop_jobs()
        self.clear()
        # Who takes the cluster down on purpose gets a new one next time.
        self._tables.destroy()

    def clear(self) -> None:
        """End every process of the cluster, also those that outlived its head.

        Raises:
            StopFailed: When a process survives SIGKILL.
        """
        for grace_s in (GRACE_S, 0.0):
            remaining = self.find_processes()
            if not remaining:
                break
            processes.end_processes(remaining, grace_s=grace_s)
        if remaining := self.find_processes():
            pids = ", ".join(str(one.pid) for one in remaining)
            raise StopFailed(f"These processes of Ray did not end: {pids}.")
        self._state_path.unlink(missing_ok=True)

    def check_ports(self) -> None:
        """Make sure that nothing listens where the cluster will.

        Raises:
            PortTaken: Naming the port, its setting and, where it can be seen, who holds it.
        """
        for port, setting in _ports(self.settings).items():
            if not processes.port_is_free(port):
                holder = processes.describe_listener(port)
                variable = f"RAYMILL_{setting.replace('.', '__').upper()}"
                raise PortTaken(f"Port {port} is taken{holder}: stop that program or set {variable} to another port.")

    def _prepare_folders(self) -> None:
        # Ray opens its folder to everybody; the one above keeps it closed
        for folder in (self.folder, self.log.parent, self.temp_dir.parent, self.temp_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                raise StartFailed(f"{folder} belongs to another user: remove it or set RAYMILL_HOME to a shorter path.")
        token = self.folder / "token"
        if not token.exists():
            write_whole(token, secrets.token_hex(32))
        if self.settings.http.proxy == "haproxy":
            install_wrapper(self.settings)
        for session in sorted(self.temp_dir.glob("session_2*"))[: 1 - KEPT_SESSIONS or None]:
            shutil.rmtree(session, ignore_errors=True)

    def _command(self) -> list[str]:
        ray = self.settings.ray
        options = {
            "node-ip-address": NODE_ADDRESS,
            "port": ray.gcs_port,
            "dashboard-host": "127.0.0.1",
            "dashboard-port": ray.dashboard_port,
            "dashboard-agent-listen-port": ray.dashboard_agent_port,
            "ray-client-server-port": ray.client_port,
            "min-worker-port": ray.worker_ports[0],
            "max-worker-port": ray.worker_ports[1],
            "object-store-memory": ray.object_store_bytes,
            "temp-dir": self.temp_dir,
            "log-color": "false",
        }
        if ray.num_cpus is not None:
            options["num-cpus"] = ray.num_cpus
        if ray.gcs_fault_tolerance:
            options["redis-password"] = self._tables.password
        words = [f"--{name}={value}" for name, value in options.items()]
        launcher = Path(sys.executable).with_name("ray")
        return [str(launcher), "start", "--head", "--block", "--disable-usage-stats", *words]

    def _environment(self, mark: str) -> dict[str, str]:
        """The caller's environment without its RAYMILL_ settings and Ray addresses: jobs inherit what is here."""
        hidden = ("RAYMILL_", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_DASHBOARD_ADDRESS", "RAY_AUTH_", "RAY_JOB_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        return (
            kept
            | {"RAY_DEDUP_LOGS": "0", "PYTHONUNBUFFERED": "1", "PATH": _path_with_scripts(kept.get("PATH", os.defpath))}
            | serve_environment(self.settings)
            | {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token_file(self.settings)),
                "RAYMILL_HOME": str(self.settings.home),
                "RAYMILL_CONFIG_FILE": str(self.settings.config_file or self.settings.home / "config.json"),
                MARK: mark,
            }
            | ({"RAY_REDIS_ADDRESS": f"127.0.0.1:{self._tables.port}"} if self.settings.ray.gcs_fault_tolerance else {})
        )

    def _await_answer(self, head: psutil.Process, complaint: str) -> None:
        def failure() -> str:
            return f"The Ray head {complaint}: {processes.last_line(self.log, ('Error', 'error', 'Exception'))}"

        with Cluster.connect(self.settings, timeout_s=5.0) as cluster:

            def answers() -> bool:
                if not processes.is_alive(head):
                    raise StartFailed(f"{failure()} (log: {self.log})")
                return cluster.is_up()

            processes.wait_until(answers, timeout_s=START_TIMEOUT_S, failure=lambda: f"{failure()} (log: {self.log})")

    def _stop_jobs(self) -> None:
        with Cluster.connect(self.settings, timeout_s=5.0) as cluster, suppress(ClusterUnreachable):
            # a cluster that does not answer has nothing left to be asked: its processes are ended all the same
            unfinished = [job for job in cluster.jobs() if job.submission_id and job.status in UNFINISHED]
            for job in unfinished:
                cluster.stop_job(job.submission_id or "")
            deadline = time.monotonic() + JOB_GRACE_S
            while unfinished and time.monotonic() < deadline:
                time.sleep(0.2)
                unfinished = [job for job in cluster.jobs() if job.submission_id and job.status in UNFINISHED]


def _ports(settings: Settings) -> dict[int, str]:
    http, ray = settings.http, settings.ray
    ports = {
        http.port: "http.port",
        ray.gcs_port: "ray.gcs_port",
        ray.dashboard_port: "ray.dashboard_port",
        ray.dashboard_agent_port: "ray.dashboard_agent_port",
        ray.client_port: "ray.client_port",
        http.grpc_port: "http.grpc_port",
    }
    if http.proxy == "haproxy":
        ports |= {
            http.stats_port: "http.stats_port",
            http.metrics_port: "http.metrics_port",
            http.fallback_port: "http.fallback_port",
            http.fallback_grpc_port: "http.fallback_grpc_port",
        }
    return ports


def _belongs(process: psutil.Process, session: int, mark: str) -> bool:
    try:
        return os.getsid(process.pid) == session or process.environ().get(MARK) == mark
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def _descendants(roots: set[int], everything: list[psutil.Process]) -> set[int]:
    found: set[int] = set()
    layer = roots
    while layer:
        layer = {one.pid for one in everything if one.info["ppid"] in layer} - found - roots
        found |= layer
    return found


def _path_with_scripts(path: str) -> str:
    scripts = str(Path(sys.executable).parent)
    return path if scripts in path.split(os.pathsep) else os.pathsep.join([scripts, path])
