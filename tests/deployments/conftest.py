"""A registered model to deploy, and a model server that follows the publications."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from factories import Tenant
from model_makers import add_version
from raymill.kernel.cache import connect_async
from raymill.kernel.resources import Resources
from raymill.serving.channel import Channel
from raymill.serving.copies import DiskCopies
from raymill.serving.directory import Directory
from raymill.serving.follower import Follower


@pytest.fixture
def digits(resources: Resources, alice: Tenant, tmp_path: Path) -> int:
    """Version 1 of alice's model ``digits``."""
    return add_version(resources, alice, tmp_path, content=b"version 1")


@dataclass
class ModelServer:
    """What a model server knows, kept current by the real follower on a loop of its own."""

    directory: Directory
    stop: Callable[[], None]


@contextmanager
def model_server(resources: Resources, server_id: str) -> Iterator[ModelServer]:
    """Run a follower in a thread until the block ends."""
    loop, directory = asyncio.new_event_loop(), Directory()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Callable[[], object]) -> None:
        future: Future[object] = asyncio.run_coroutine_threadsafe(coroutine(), loop)  # type: ignore[arg-type]
        future.result(10)

    follower = Follower(
        directory,
        Channel(connect_async(resources.settings.redis), server_id),
        resources.store,
        DiskCopies(resources.settings.home / "serving" / server_id),
        resources.signer.verifier,
        heartbeat_s=0.1,
    )
    run(follower.start)
    until(lambda: resources.cache.zscore("raymill:servers", server_id))
    try:
        yield ModelServer(directory, lambda: run(follower.stop))
    finally:
        run(follower.stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def server(resources: Resources) -> Iterator[ModelServer]:
    """One live model server."""
    with model_server(resources, "one") as running:
        yield running


def until(probe: Callable[[], object], deadline_s: float = 5.0) -> None:
    """Wait until the probe is true.

    Raises:
        AssertionError: If it is not within the deadline.
    """
    deadline = time.monotonic() + deadline_s
    while not probe():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.005)
