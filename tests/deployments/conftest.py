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
from raymill.kernel.cache import connect_async
from raymill.kernel.resources import Resources
from raymill.registry import service as models
from raymill.registry import versions
from raymill.registry.schemas import ArtifactType, Framework, Signature, VersionComplete, VersionCreate
from raymill.serving.channel import Channel
from raymill.serving.copies import DiskCopies
from raymill.serving.directory import Directory
from raymill.serving.follower import Follower

SIGNATURE = Signature.model_validate(
    {
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
        "labels": list(range(10)),
    }
)


def add_version(resources: Resources, tenant: Tenant, folder: Path, *, content: bytes) -> int:
    """Register a ready version of the model ``digits``; deploying never opens the file."""
    file = folder / "model.onnx"
    file.write_bytes(content)
    blob = resources.store.put_file(tenant.project_id, file)
    with resources.session() as session:
        model = models.ensure_model(
            session,
            project_id=tenant.project_id,
            name="digits",
            framework=Framework.PYTORCH,
            created_by=tenant.user_id,
        )
        version = versions.create_version(session, model=model, data=VersionCreate(), created_by=tenant.user_id)
        artifact = versions.ArtifactFile(path="model.onnx", type=ArtifactType.MODEL, blob=blob)
        versions.put_artifact(session, version_id=version.id, file=artifact)
        versions.mark_ready(
            session, version_id=version.id, data=VersionComplete(), signature=SIGNATURE, onnx=blob.sha256
        )
        return version.version


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
