"""A running platform as the tests see it that kill its parts: its processes, its load, its doors."""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import redis

from open_load import PER_SECOND, Load, open_load
from raymill.compute.cluster import Cluster, ClusterUnreachable, Replica
from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.compute.embedded.processes import is_alive
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.compute.embedded.valkey import EmbeddedValkey
from raymill.kernel.settings import Settings
from timing import until
from whole_platform import Platform, Tenant


class Patient:
    """What dies, and how it is seen from outside."""

    def __init__(self, platform: Platform, tenant: Tenant, row: list[float]) -> None:
        self.platform = platform
        self.tenant = tenant
        self.settings = Settings(home=platform.home)
        key = tenant.client.api_keys.create(name=f"load {secrets.token_hex(3)}", project_id=tenant.project_id)
        self.headers = {"X-API-Key": key.key or ""}
        self.body = {"instances": [row]}
        self.http = httpx.Client(base_url=platform.url, headers=self.headers, timeout=30.0, trust_env=False)

    @contextmanager
    def load(self, per_second: float = PER_SECOND, *, endpoint: str | None = None) -> Iterator[Load]:
        """Predict all the while, on the tenant's endpoint unless another is named."""
        url = f"{endpoint or self.tenant.deployment.endpoint}/predict"
        with open_load(url, headers=self.headers, body=self.body, per_second=per_second) as load:
            yield load

    @property
    def postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.platform.home / "postgres", log=self.platform.home / "logs" / "postgres.log")

    @property
    def valkey(self) -> EmbeddedValkey:
        return EmbeddedValkey(self.platform.home / "valkey", log=self.platform.home / "logs" / "valkey.log")

    def cache(self) -> redis.Redis:
        return redis.Redis.from_url(self.valkey.url, socket_timeout=2.0)

    def replicas(self, app: str) -> list[Replica]:
        """The running replicas of an app; none while Serve's controller does not answer."""
        try:
            with Cluster.connect(self.settings) as cluster:
                found = [each for each in cluster.serve_apps() if each.name == app]
        except ClusterUnreachable:
            return []
        return [one for each in found for one in each.replicas if one.state == "RUNNING" and one.pid]

    def pids(self, app: str) -> set[int]:
        return {one.pid for one in self.replicas(app) if one.pid}

    def process(self, words: str) -> psutil.Process:
        """The one process of the Ray head whose command line starts with the words."""
        found = [one for one in EmbeddedRay(self.settings).find_processes() if " ".join(_words(one)).startswith(words)]
        assert len(found) == 1, (words, found)
        return found[0]

    def haproxies(self) -> list[psutil.Process]:
        return [one for one in EmbeddedRay(self.settings).find_processes() if one.name() == "haproxy"]

    def ask(self, path: str, **options: Any) -> tuple[int, float, httpx.Response]:
        """Ask the control plane; return status, seconds and answer."""
        started = time.monotonic()
        answer = self.http.request(options.pop("method", "GET"), f"/api{path}", **options)
        return answer.status_code, time.monotonic() - started, answer

    def is_up(self) -> bool:
        try:
            return self.ask("/readyz")[0] == 200
        except httpx.HTTPError:
            return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def send(process: psutil.Process | None, number: signal.Signals) -> None:
    """Send a signal to a server and to the processes that it made."""
    assert process
    for each in [process, *process.children(recursive=True)]:
        try:
            each.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def kill(pid: int) -> float:
    """Kill a process; return the moment from which on the kernel has closed its sockets."""
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(process), within_s=10, what=f"the end of {pid}", every_s=0.0005)
    return time.monotonic()
