"""What the grants cost a model server: memory and time for 1,000 projects of 100 members and 10 keys each.

The documents are compiled and signed as the control plane does it and lie in a real Valkey. Model servers in fresh
processes load them: one from an empty Valkey for comparison, one with all, one more under tracemalloc.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import redis
from load import BenchmarkFailed
from machine import described, write
from pydantic import SecretStr

from raymill.auth.keys import KeyGrant
from raymill.auth.permissions import Permission
from raymill.compute.embedded.valkey import EmbeddedValkey
from raymill.deployments.compile import compile_grants
from raymill.kernel.ids import new_id
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.security import TokenSigner, load_signer
from raymill.kernel.settings import RedisSettings, Settings
from raymill.serving import channel
from raymill.serving.documents import seal
from raymill.serving.grants import ProjectGrants
from raymill.serving.server import ModelServer

PROJECTS, MEMBERS, KEYS = 1000, 100, 10
# Each user is a member of five projects.
USERS = PROJECTS * MEMBERS // 5
BUMPS = 20
FLOOR_MB = 100.0
MB = 1e6
_WITHIN_S = 30.0
_RIGHTS = (frozenset({Permission.ENDPOINT_INVOKE}), frozenset(Permission), frozenset({Permission.MODEL_READ}))


def main() -> None:
    """Run the benchmark; exit with 1 when it is not worth anything, with 2 when the floor is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--server", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.server:
        asyncio.run(_serve(_settings(Path(given.server[0]), given.server[1]), traced=given.traced))
        return
    try:
        document = _run()
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    write("grants_memory", document, _table(document))
    if not document["met"]:
        sys.exit(2)


def _run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="rm-bench-") as folder, _valkey(Path(folder) / "valkey") as url:
        cache = redis.Redis.from_url(url)
        channel.mark_complete(cache)
        homes = [Path(folder) / name for name in ("empty", "full", "traced")]
        for home in homes:
            home.mkdir()
            (home / "keys").symlink_to(Path(folder) / "keys")
        signer = _signer(Path(folder))
        with _model_server(homes[0], url) as ask:
            empty = ask("held")
        projects = [_grants(number) for number in range(PROJECTS)]
        for project in projects:
            channel.publish(cache, seal(project, signer))
        with _model_server(homes[1], url) as ask:
            full, bumps = ask("held"), [_bump_s(cache, signer, project) for project in projects[:BUMPS]]
            after = ask("held")
        with _model_server(homes[2], url, "--traced") as ask:
            traced = ask("held")
    return _document(empty, full, after, traced, bumps)


def _document(empty: Any, full: Any, after: Any, traced: Any, bumps: list[float]) -> dict[str, Any]:
    resident, peak = ((full[name] - empty[name]) / MB for name in ("resident", "peak"))
    if full["documents"] < PROJECTS:
        raise BenchmarkFailed(f"The model server holds {full['documents']} documents of {PROJECTS}.")
    return {
        "machine": described(),
        "projects": PROJECTS,
        "members": PROJECTS * MEMBERS,
        "users": USERS,
        "keys": PROJECTS * KEYS,
        "resident_mb": resident,
        "peak_mb": peak,
        "resident_after_bumps_mb": (after["resident"] - empty["resident"]) / MB,
        "python_mb": traced["traced"] / MB,
        "python_peak_mb": traced["traced_peak"] / MB,
        "load_s": full["load_s"],
        "bump_ms": sorted(1000 * second for second in bumps),
        "stall_ms": 1000 * after["stall_s"],
        "floor_mb": FLOOR_MB,
        "met": peak < FLOOR_MB,
    }
