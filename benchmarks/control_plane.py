"""Fifty people at once on the control plane: each logs in, lists, creates and reads, over and over.

Every person has an account and a project of their own. An error fails the run, and so does a connection to PostgreSQL
more than the pools of the platform's processes may hold.
"""

import asyncio
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import httpx
import psycopg
from load import BenchmarkFailed
from machine import described, write
from own_platform import OwnPlatform, running_platform

from raymill.kernel.settings import DatabaseSettings, Settings

USERS = 50
SECONDS = 60
PATIENCE_S = 30.0
PASSWORD = "four words of a benchmark"
# The limits on who asks too often are not what this measures: all people come from one address here.
SETTINGS = {"LIMITS__PRINCIPAL_PER_MINUTE": "1000000", "LIMITS__ADDRESS_PER_MINUTE": "1000000"}
# The processes that hold connections: api and controller.
POOLS = 2
OPERATIONS = ("login", "list", "create", "read")


@dataclass
class Person:
    """An account with its project."""

    email: str
    token: str
    project_id: str

    @property
    def headers(self) -> dict[str, str]:
        """The login of a request."""
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Seen:
    """Seconds of each answer by operation, what failed, and how many connections PostgreSQL had."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)


def main() -> None:
    """Run the benchmark; exit with 1 when a request failed or PostgreSQL had too many connections."""
    try:
        with running_platform(**SETTINGS) as platform:
            document = asyncio.run(_run(platform))
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    write("control_plane", document, _table(document))


async def _run(platform: OwnPlatform) -> dict[str, Any]:
    settings = Settings(home=platform.home)
    url = f"http://127.0.0.1:{platform.environment['RAYMILL_HTTP__PORT']}/api/v1"
    limits = httpx.Limits(max_connections=USERS, max_keepalive_connections=USERS)
    seen = Seen()
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits) as client:
        people = [await _join(client, number) for number in range(USERS)]
        began = time.monotonic()
        watch = asyncio.create_task(_watch(settings.database, seen))
        await asyncio.gather(*(_work(client, person, seen, until=began + SECONDS) for person in people))
        took = time.monotonic() - began
        watch.cancel()
    return _document(seen, took, _bound(settings.database))


async def _join(client: httpx.AsyncClient, number: int) -> Person:
    """Register a person and make the person's project."""
    email = f"person-{number}@example.com"
    body = {"email": email, "name": f"Person {number}", "password": PASSWORD}
    answer = await client.post("/auth/register", json=body)
    person = Person(email, _made(answer)["access_token"], "")
    answer = await client.post("/projects", json={"name": f"project-{number}"}, headers=person.headers)
    person.project_id = _made(answer)["id"]
    return person


def _made(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code != 201:
        raise BenchmarkFailed(f"{answer.request.url} answers {answer.status_code}: {answer.text[:500]}")
    made: dict[str, Any] = answer.json()
    return made


async def _work(client: httpx.AsyncClient, person: Person, seen: Seen, *, until: float) -> None:
    """Log in, list, create and read until the time is over."""
    number = 0
    while time.monotonic() < until:
        number += 1
        login = {"email": person.email, "password": PASSWORD}
        opened = await _timed(seen, "login", client.post("/auth/login", json=login))
        if opened is not None:
            person.token = opened["access_token"]
        await _timed(seen, "list", client.get("/projects", headers=person.headers))
        body = {"project_id": person.project_id, "name": f"model-{number}"}
        model = await _timed(seen, "create", client.post("/models", json=body, headers=person.headers))
        if model is not None:
            await _timed(seen, "read", client.get(f"/models/{model['id']}", headers=person.headers))


async def _timed(seen: Seen, operation: str, request: Any) -> dict[str, Any] | None:
    began = time.perf_counter()
    try:
        answer: httpx.Response = await request
    except httpx.HTTPError as error:
        seen.errors.append(f"{operation}: {error!r}")
        return None
    if not answer.is_success:
        seen.errors.append(f"{operation}: {answer.status_code}: {answer.text[:300]}")
        return None
    seen.seconds[operation].append(time.perf_counter() - began)
    body: dict[str, Any] = answer.json()
    return body


async def _watch(database: DatabaseSettings, seen: Seen) -> None:
    """Count the platform's connections ten times a second."""
    url = database.url.get_secret_value() if database.url else ""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(query)).fetchone()
            seen.connections.append(row[0] if row else 0)
            await asyncio.sleep(0.1)


def _bound(database: DatabaseSettings) -> int:
    return POOLS * (database.pool_size + database.max_overflow)


def _document(seen: Seen, took: float, bound: int) -> dict[str, Any]:
    if seen.errors:
        raise BenchmarkFailed(f"{len(seen.errors)} requests failed, the first with {seen.errors[0]}")
    most = max(seen.connections)
    if most > bound:
        raise BenchmarkFailed(f"PostgreSQL had {most} connections; the pools may hold {bound}.")
    return {
        "machine": described(),
        "users": USERS,
        "seconds": took,
        "operations": {name: _figures(seen.seconds[name], took) for name in OPERATIONS},
        "connections": {"most": most, "bound": bound},
    }


def _figures(seconds: list[float], took: float) -> dict[str, float]:
    cuts = quantiles(seconds, n=100)
    return {
        "requests": len(seconds),
        "requests/s": len(seconds) / took,
        "p50 ms": 1000 * median(seconds),
        "p99 ms": 1000 * cuts[98],
        "most ms": 1000 * max(seconds),
    }


def _table(document: dict[str, Any]) -> str:
    columns = ("requests", "requests/s", "p50 ms", "p99 ms", "most ms")
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, figures in document["operations"].items():
        cells = (f"{figures[column]:,.{1 if column == 'requests/s' else 0}f}" for column in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    connections = document["connections"]
    lines += [
        "",
        f"no request failed; PostgreSQL had {connections['most']} connections at most, of {connections['bound']}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
