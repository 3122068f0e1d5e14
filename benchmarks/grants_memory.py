"""What the grants cost a model server: memory and time for 1,000 projects of 100 members, with 10 keys per project and
with 10 per member.

The documents are compiled and signed as the control plane does it and lie in a real Valkey. Model servers in fresh
processes load them: one without any for comparison, one with all, one more that counts Python's objects.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import redis
from load import BenchmarkFailed
from machine import described, write

from raymill.auth.keys import KeyGrant
from raymill.auth.permissions import ROLES, ProjectRole
from raymill.compute.embedded.valkey import EmbeddedValkey
from raymill.deployments.compile import compile_grants
from raymill.kernel.ids import new_id
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.security import TokenSigner, load_signer
from raymill.kernel.settings import AuthSettings
from raymill.serving.published import channel
from raymill.serving.published.documents import seal
from raymill.serving.published.grants import ProjectGrants

PROJECTS, MEMBERS = 1000, 100
#: Keys of one project.
READINGS = {"10 per project": 10, "10 per member": 10 * MEMBERS}
EXPIRY = datetime(2100, 1, 1, tzinfo=UTC)
# Each user is a member of five projects.
USERS = [new_id("usr") for _ in range(PROJECTS * MEMBERS // 5)]
BUMPS = 20
FLOOR_MB = 100.0
MB = 1e6
SERVER = Path(__file__).with_name("grants_server.py")

Ask = Callable[[], dict[str, Any]]


def main() -> None:
    """Run the benchmark; exit with 1 when it is not worth anything, with 2 when the floor is missed."""
    try:
        document = _run()
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    write("grants_memory", document, _table(document))
    if not document["met"]:
        sys.exit(2)


def _run() -> dict[str, Any]:
    figures = {name: _figures(keys) for name, keys in READINGS.items()}
    met = all(each["resident_peak_mb"] < FLOOR_MB for each in figures.values())
    return {"machine": described(), "figures": figures, "met": met}


def _figures(keys: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="rm-bench-") as name, _valkey(Path(name)) as url:
        make_keys(Path(name) / "keys")
        cache, signer = redis.Redis.from_url(url), load_signer(Path(name) / "keys", AuthSettings())
        channel.mark_complete(cache)
        with _server(Path(name) / "none", url) as ask:
            none = ask()
        projects = [_publish(cache, signer, _project(number, keys)) for number in range(BUMPS)]
        for number in range(BUMPS, PROJECTS):
            _publish(cache, signer, _project(number, keys))
        with _server(Path(name) / "all", url) as ask:
            full = ask()
            bumps = [_bump(cache, signer, project) for project in projects]
            later = ask()
        with _server(Path(name) / "traced", url, "traced") as ask:
            traced = ask()
    _check(full, keys)
    return {
        "resident_mb": (full["resident"] - none["resident"]) / MB,
        "resident_peak_mb": (full["resident_peak"] - none["resident"]) / MB,
        "python_mb": traced["python"] / MB,
        "python_peak_mb": traced["python_peak"] / MB,
        "load_s": full["load_s"] - none["load_s"],
        "load_cpu_s": full["load_cpu_s"] - none["load_cpu_s"],
        "load_stall_ms": 1000 * full["stall_s"],
        "load_stall_cpu_ms": 1000 * full["stall_cpu_s"],
        "look_up_us": 1e6 * full["look_up_s"],
        "bump_ms": 1000 * median(bumps),
        "bump_most_ms": 1000 * max(bumps),
        "bump_stall_ms": 1000 * later["stall_s"],
    }


def _publish(cache: redis.Redis, signer: TokenSigner, project: ProjectGrants) -> ProjectGrants:
    channel.publish(cache, seal(project, signer))
    return project


def _project(number: int, keys: int) -> ProjectGrants:
    """Compile the grants of one project: an owner, ten viewers, developers, and keys of every kind."""
    roles = [ProjectRole.OWNER, *[ProjectRole.VIEWER] * 10, *[ProjectRole.DEVELOPER] * (MEMBERS - 11)]
    users = [USERS[(number * MEMBERS + each) % len(USERS)] for each in range(MEMBERS)]
    members = {user: ROLES[role] for user, role in zip(users, roles, strict=True)}
    granted = [_key(users[each % MEMBERS], number, each) for each in range(keys)]
    return compile_grants(new_id("prj"), members=members, keys=granted)


def _key(maker: str, project: int, number: int) -> KeyGrant:
    digest = sha256(f"{project}/{number}".encode()).hexdigest()
    permissions, endpoint = (ROLES[ProjectRole.VIEWER], f"project-{project}.one") if number % 2 else (None, None)
    expires_at = EXPIRY + timedelta(seconds=number) if number % 3 else None
    return KeyGrant(new_id("key"), digest, maker, permissions, expires_at=expires_at, endpoint=endpoint)


def _bump(cache: redis.Redis, signer: TokenSigner, project: ProjectGrants) -> float:
    """Publish a project anew without its last member; return the seconds until the server holds it."""
    members = dict(list(project.members.items())[:-1])
    sealed = seal(project.model_copy(update={"version": 2, "members": members}), signer)
    begun = time.perf_counter()
    channel.publish(cache, sealed)
    if not channel.await_acknowledgement(cache, sealed):
        raise BenchmarkFailed("The model server did not take a change over within 2 s.")
    return time.perf_counter() - begun


def _check(full: dict[str, Any], keys: int) -> None:
    held, meant = (full["projects"], full["keys"]), (PROJECTS, PROJECTS * keys)
    if held != meant:
        raise BenchmarkFailed(f"The model server holds {held} projects and keys, and {meant} were published.")


def _table(document: dict[str, Any]) -> str:
    few, many = document["figures"].values()
    return "\n".join(
        [
            f"{PROJECTS:,} projects, {PROJECTS * MEMBERS:,} memberships",
            "",
            " " * 18 + "".join(f"{PROJECTS * keys:>11,} keys" for keys in READINGS.values()),
            *(f"{name:18} {few[name]:15.1f} {many[name]:15.1f}" for name in few),
            "",
            f"peak under {FLOOR_MB:.0f} MB: {'met' if document['met'] else 'MISSED'}",
        ]
    )


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    valkey = EmbeddedValkey(folder / "valkey", durable=False)
    try:
        yield valkey.start()
    finally:
        valkey.destroy()


@contextmanager
def _server(home: Path, url: str, *more: str) -> Iterator[Ask]:
    """Run a model server's parts in a process of their own; what is yielded asks it what it uses."""
    home.mkdir()
    (home / "keys").symlink_to(home.parent / "keys")
    process = subprocess.Popen(
        [sys.executable, SERVER, home, url, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield lambda: _ask(process)
    finally:
        process.communicate(timeout=30)


def _ask(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("?\n")
    process.stdin.flush()
    while line := process.stdout.readline():
        # Its log comes the same way.
        if '"resident"' in line:
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise BenchmarkFailed("The model server ended.")


if __name__ == "__main__":
    main()
