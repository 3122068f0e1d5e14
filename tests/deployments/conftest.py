"""A registered model to deploy, and a model server that follows the publications."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from factories import Tenant
from model_makers import add_version
from raymill.kernel.cache import connect_async
from raymill.kernel.errors import RaymillError
from raymill.kernel.resources import Resources
from raymill.serving.edge.access import Edge
from raymill.serving.errors import ModelBroken
from raymill.serving.models.warmup import Warmer
from raymill.serving.published.channel import Channel
from raymill.serving.published.copies import DiskCopies
from raymill.serving.published.directory import Directory, Endpoint, Route
from raymill.serving.published.follower import Follower
from timing import until

NAME = "alice-project.digits"


@pytest.fixture
def digits(resources: Resources, alice: Tenant, tmp_path: Path) -> int:
    """Version 1 of alice's model ``digits``."""
    return add_version(resources, alice, tmp_path, content=b"version 1")


@pytest.fixture
def three(alice: Tenant, digits: int, resources: Resources, tmp_path: Path) -> int:
    """Versions 1, 2 and 3 of the model."""
    add_version(resources, alice, tmp_path, content=b"version 2")
    return add_version(resources, alice, tmp_path, content=b"version 3")


@dataclass
class ModelServer:
    """What a model server knows, kept current by the real follower on a loop of its own."""

    directory: Directory
    stop: Callable[[], None]
    #: Why revisions do not become warm, by number.
    broken: dict[int, str]
    #: Asks where the directory changes: there are no locks, and elsewhere it may be seen half changed.
    ask: Callable[[Callable[[], bool]], bool]


@contextmanager
def model_server(resources: Resources, server_id: str) -> Iterator[ModelServer]:
    """Run a follower in a thread until the block ends."""
    loop, directory = asyncio.new_event_loop(), Directory()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Callable[[], object]) -> None:
        future: Future[object] = asyncio.run_coroutine_threadsafe(coroutine(), loop)  # type: ignore[arg-type]
        future.result(10)

    def ask(probe: Callable[[], bool]) -> bool:
        async def answer() -> bool:
            return probe()

        return asyncio.run_coroutine_threadsafe(answer(), loop).result(10)

    follower = Follower(
        directory,
        Channel(connect_async(resources.settings.redis), server_id),
        resources.store,
        DiskCopies(resources.settings.home / "serving" / server_id),
        resources.signer.verifier,
        heartbeat_s=0.1,
    )
    broken: dict[int, str] = {}

    async def warm(endpoint: Endpoint, route: Route) -> None:
        if reason := broken.get(route.revision.number):
            raise ModelBroken(reason)

    reports = Channel(connect_async(resources.settings.redis), server_id)
    warmer = Warmer(directory, reports, warm, period_s=0.1, timeout_s=2.0)
    run(follower.start)
    warming = asyncio.run_coroutine_threadsafe(warmer.run(), loop)
    until(lambda: resources.cache.zscore("raymill:servers", server_id))
    try:
        yield ModelServer(directory, lambda: run(follower.stop), broken, ask)
    finally:
        run(follower.stop)
        loop.call_soon_threadsafe(warmer.close)
        warming.result(10)
        run(reports.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def server(resources: Resources) -> Iterator[ModelServer]:
    """One live model server."""
    with model_server(resources, "one") as running:
        yield running


class Door:
    """The edge of a model server, asked with the credentials that clients would send."""

    def __init__(self, server: ModelServer, resources: Resources) -> None:
        self._edge = Edge(server.directory, resources.signer.verifier)

    def by(self, credential: str | None, name: str = NAME) -> int:
        """Return the status that an invocation would be answered with."""
        headers = {b"authorization": f"Bearer {credential}".encode()} if credential else {}
        try:
            self._edge.admit(headers, name, "192.0.2.1")
        except RaymillError as error:
            return error.status
        return 200


@pytest.fixture
def door(server: ModelServer, resources: Resources) -> Door:
    """The edge of the running model server."""
    return Door(server, resources)


def make_key(tenant: Tenant, *permissions: str, **more: Any) -> tuple[str, str]:
    """Return id and secret of a new key of the tenant's project."""
    body = {"name": "k", "project_id": tenant.project_id, "permissions": permissions or ["endpoint:invoke"]} | more
    made = tenant.post("/api-keys", json=body)
    assert made.status_code == 201, made.text
    return made.json()["id"], made.json()["key"]


def token(tenant: Tenant) -> str:
    return str(tenant.tokens["access_token"])


@pytest.fixture
def looks(resources: Resources) -> Iterator[list[str]]:
    """Every question that was asked for the marks of what is followed."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "xmin" in statement:
            asked.append(statement)

    engine = resources.database.engine
    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


@contextmanager
def once_followed(looks: list[str], change: Callable[[], object]) -> Iterator[None]:
    """Make a change when the stream that the block opens has asked its first question."""
    seen = len(looks)

    def wait_and_change() -> None:
        until(lambda: len(looks) > seen, within_s=20)
        change()

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(wait_and_change)
        yield
        changing.result()
