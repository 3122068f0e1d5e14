"""Servers for a test run, made of the same parts that `raymill up` uses."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.compute.embedded.valkey import EmbeddedValkey


def start_databases(folder: Path) -> tuple[str, str, Callable[[], None]]:
    """Start both servers below `folder` without fsync.

    Returns:
        The database URL of the role that owns everything, the Redis URL, and a function that stops both servers and
        deletes their data.
    """
    postgres = EmbeddedPostgres(folder / "postgres", durable=False)
    valkey = EmbeddedValkey(folder / "valkey", durable=False)

    def stop() -> None:
        valkey.destroy()
        postgres.destroy()

    try:
        with ThreadPoolExecutor() as pool:
            _, redis_url = pool.map(lambda server: server.start(), (postgres, valkey))
    except BaseException:
        stop()
        raise
    return postgres.admin_url, redis_url, stop


def platform_environment(home: Path) -> dict[str, str]:
    """Environment of a `raymill` process whose platform lives in `home` and shares no port with another one."""
    names = ["HTTP__PORT", "HTTP__GRPC_PORT", "HTTP__STATS_PORT", "HTTP__METRICS_PORT", "HTTP__FALLBACK_PORT"]
    names += ["HTTP__FALLBACK_GRPC_PORT", "RAY__GCS_PORT", "RAY__DASHBOARD_PORT", "RAY__DASHBOARD_AGENT_PORT"]
    names += ["RAY__CLIENT_PORT"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    block = os.getpid() % 10
    ranges = {
        "HTTP__REPLICA_PORTS": [31_001 + 100 * block, 31_100 + 100 * block],
        "HTTP__REPLICA_GRPC_PORTS": [42_001 + 100 * block, 42_100 + 100 * block],
        "RAY__WORKER_PORTS": [10_002 + 900 * block, 10_900 + 900 * block],
    }
    given = {f"RAYMILL_{name}": json.dumps(value) for name, value in (ports | ranges).items()}
    return inherited() | given | {"RAYMILL_HOME": str(home), "RAYMILL_RAY__OBJECT_STORE_BYTES": str(100 * 2**20)}


def inherited() -> dict[str, str]:
    """This process's environment without what must not reach a cluster: settings, and the tracing of its coverage.

    Traced, each of a cluster's processes takes twice as long to start; what runs only there has tests of its own here.
    """
    foreign = ("RAYMILL_", "RAY_", "COVERAGE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, each another one."""
    with ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def remove_platform(home: Path) -> None:
    """Delete a stopped platform: its home, and as root its database's folder, which lies outside of it."""
    EmbeddedPostgres(home / "postgres").destroy()
    shutil.rmtree(home, ignore_errors=True)
