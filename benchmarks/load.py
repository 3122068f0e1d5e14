"""The load generator: wrk over 16 connections that stay open."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

CONNECTIONS = 16
_SCRIPT = Path(__file__).with_name("post.lua")


class BenchmarkFailed(Exception):
    """Raised when a run would not be worth anything; the message says why."""


@dataclass(frozen=True)
class Target:
    """A URL to load, and the files with the body and the Authorization headers, one a line (empty for none)."""

    url: str
    body: Path
    credential: Path
    #: Headers beside that of the credential.
    headers: dict[str, str] = field(default_factory=dict)
    #: Paths that requests take in turn, in place of the URL's.
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Load:
    """What one stretch of load saw; latencies in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def require_wrk() -> None:
    """Fail with a sentence when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise BenchmarkFailed("The load generator 'wrk' is not installed: apt-get install wrk (or brew install wrk).")


def drive(target: Target, seconds: int) -> Load:
    """Load the target for some seconds.

    Raises:
        BenchmarkFailed: If an answer was not 200, or a connection failed.
    """
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", str(_SCRIPT)]
    more = [*(f"{name}: {value}" for name, value in target.headers.items()), *target.paths]
    done = subprocess.run(
        ["wrk", *options, target.url, "--", str(target.body), str(target.credential), *more],
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("JSON ")]
    if done.returncode or not found:
        raise BenchmarkFailed(f"wrk failed on {target.url}: {done.stdout[-500:]}{done.stderr[-500:]}")
    seen = json.loads(found[0].removeprefix("JSON "))
    refused, broken = seen.pop("refused"), seen.pop("broken")
    if refused or broken or not seen["requests"]:
        raise BenchmarkFailed(
            f"{target.url}: of {seen['requests']} answers {refused} were not 200, and {broken} connections failed."
        )
    return Load(**seen)
