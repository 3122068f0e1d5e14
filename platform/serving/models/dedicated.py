"""Revisions that an app of their own answers for: one call by handle, with our time limits and our refusals.

The app runs a user's program. It gets the decoded arrays and nothing that came with the request, and of what it says
only bytes are taken: Ray's pickling is switched off for its answers.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from typing import Any

import structlog

from ..errors import AnswerTooLarge, AppUnavailable, ModelFailed, ModelUnavailable, QueueFull, RequestTimedOut
from ..formats import Array
from ..formats.frames import ARRAYS, REFUSED, FrameDamaged, unpack
from ..protocol.v2 import Question, Target
from ..published.directory import Directory
from ..published.table import Revision
from ..records.metrics import Meter
from .artifacts import ArtifactCache

log = structlog.get_logger(__name__)

_DEPLOYMENT = "model"
_PIECE_BYTES = 1 << 20
# The controller may make an app before this server has heard of the revision.
_TABLE_WAIT_S, _TABLE_POLL_S = 10.0, 0.1


class _Door:
    """The way to one app."""

    __slots__ = ("ask", "in_use", "meter", "waiting")

    def __init__(self, ask: Any, meter: Meter) -> None:
        self.ask = ask
        #: The revision that the app answers for.
        self.meter = meter
        #: Requests on their way, and those of them that no replica has taken yet.
        self.in_use = 0
        self.waiting = 0

    def _taken(self, _: object) -> None:
        self.waiting -= 1

    def send(self, question: Question) -> Any:
        """Send the arrays; the response is awaited for the answer."""
        _hasten(self.ask)
        response = self.ask.remote(question.outputs, question.feeds)
        self.waiting += 1
        # Ray has no public word for "a replica has taken it".
        response._replica_result_future.add_done_callback(self._taken)
        return response


class DedicatedApps:
    """The apps that one model server calls, the least recently used of them forgotten first."""

    def __init__(
        self, *, max_answer_bytes: int = 2**26, capacity: int = 200, handle_of: Callable[[str], Any] | None = None
    ) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._capacity = capacity
        #: How an app's handle is made.
        self.handle_of = handle_of or _handle
        self._doors: OrderedDict[str, _Door] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self, app: str, meter: Meter, question: Question, *, timeout_s: float, max_queued: int) -> bytes:
        """Let the app compute what the question asks for, and return what ``arrays_of`` reads.

        Raises:
            QueueFull: If as many requests wait for the app already as may.
            AppUnavailable: If the app failed, or no replica of it took the request in time.
            RequestTimedOut: If one did and has not answered in time.
            AnswerTooLarge: If the answer is larger than the limit.
        """
        door = self._door(app, meter)
        if door.waiting >= max_queued:
            raise QueueFull(max_queued)
        door.in_use += 1
        try:
            answer = await _ask(door, app, question, timeout_s)
        finally:
            door.in_use -= 1
        if len(answer) > self._max_answer_bytes:
            raise AnswerTooLarge(len(answer), self._max_answer_bytes)
        return answer

    def waiting(self) -> dict[Meter, int]:
        """Return how many requests no replica has taken yet, by revision."""
        return {door.meter: door.waiting for door in self._doors.values() if door.waiting}

    async def close(self) -> None:
        """Let go of every app."""
        while self._doors:
            self._close(self._doors.popitem()[1])
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _door(self, app: str, meter: Meter) -> _Door:
        door = self._doors.get(app)
        if door is None:
            self._make_room()
            door = self._doors[app] = _Door(self.handle_of(app), meter)
        self._doors.move_to_end(app)
        return door

    def _make_room(self) -> None:
        idle = [app for app, door in self._doors.items() if not door.in_use]
        for app in idle[: max(0, len(self._doors) + 1 - self._capacity)]:
            self._close(self._doors.pop(app))

    def _close(self, door: _Door) -> None:
        task = asyncio.get_running_loop().create_task(door.ask.shutdown_async())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class ArtifactDesk:
    """Gives the artifacts of dedicated revisions to their apps, which reach no object store."""

    def __init__(
        self, directory: Directory, artifacts: ArtifactCache, executor: Executor, *, wait_s: float = _TABLE_WAIT_S
    ) -> None:
        self._directory = directory
        self._artifacts = artifacts
        self._executor = executor
        self._wait_s = wait_s

    async def give(self, app: str, sha256: str) -> AsyncIterator[bytes]:
        """Yield the artifact in pieces; whoever knows app and digest of a revision that is served may have it.

        Raises:
            ModelUnavailable: If no such revision is served, or the object store does not answer.
        """
        revision = await self._revision(app, sha256)
        loop = asyncio.get_running_loop()
        path = await loop.run_in_executor(self._executor, self._artifacts.fetch, revision)
        with path.open("rb") as file:
            while piece := await loop.run_in_executor(self._executor, file.read, _PIECE_BYTES):
                yield piece

    async def _revision(self, app: str, sha256: str) -> Revision:
        deadline = time.monotonic() + self._wait_s
        while (found := self._find(app, sha256)) is None:
            if time.monotonic() > deadline:
                raise ModelUnavailable(f"No revision of the app {app!r} with this digest is served.")
            await asyncio.sleep(_TABLE_POLL_S)
        return found

    def _find(self, app: str, sha256: str) -> Revision | None:
        routes = (route for endpoint in self._directory.endpoints.values() for route in endpoint.routes.values())
        theirs = (route.revision for route in routes if route.revision.app == app)
        return next((revision for revision in theirs if revision.sha256 == sha256), None)


async def _ask(door: _Door, app: str, question: Question, timeout_s: float) -> bytes:
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    response = door.send(question)
    try:
        async with asyncio.timeout(timeout_s):
            answer: bytes = await response
            return answer
    except TimeoutError as error:
        assigned = response._replica_result_future
        # The time limit cancels what was awaited: until a replica is found, that is the search for one.
        taken = assigned.done() and not assigned.cancelled()
        response.cancel()
        if taken:
            raise RequestTimedOut(timeout_s) from error
        raise AppUnavailable(f"No replica of {app} was ready within {timeout_s:g} s.", retry_after_s=5) from error
    except asyncio.CancelledError:
        response.cancel()
        raise
    except BackPressureError as error:
        raise QueueFull(door.waiting) from error
    except DeploymentUnavailableError as error:
        raise AppUnavailable(f"The app {app} is not there or fails to start.", retry_after_s=5) from error
    except Exception as error:  # Ray raises whatever went wrong on the way
        log.warning("app_lost_a_request", app=app, error=repr(error))
        raise AppUnavailable(f"The replica of {app} that had the request is gone.", retry_after_s=1) from error


def arrays_of(app: str, answer: bytes, target: Target, question: Question) -> list[Array]:
    """Read an app's answer.

    Raises:
        ModelFailed: If the model refuses the values.
        AppUnavailable: If it is no answer to the question.
    """
    kind = answer[:1]
    if kind == REFUSED:
        raise ModelFailed(answer[1:].decode(errors="replace"))
    expected: Mapping[str, Any] = {name: port.dtype for name, port in target.interface.outputs.items()}
    try:
        if kind != ARRAYS:
            raise FrameDamaged("it is neither arrays nor a refusal")
        return unpack(memoryview(answer)[1:], expected, question.outputs)
    except FrameDamaged as error:
        raise AppUnavailable(f"The answer of {app} cannot be used: {error}.") from error


def _hasten(handle: Any) -> None:
    """Let a request to an app without replicas wake it now.

    Serve reports such a request at once, but with what it recorded before it, that nothing waits; the next report comes
    10 s later (Ray 2.60, ``RouterMetricsManager._get_metrics_report``). Where nothing is recorded it counts what waits.
    """
    try:
        router = handle._router._asyncio_router
        known = router.request_router
        if known is not None and not known.curr_replicas:
            router._metrics_manager.metrics_store.data.clear()
    except AttributeError as error:
        log.debug("wake_up_not_hastened", error=str(error))


def _handle(app: str) -> Any:
    # Only here: a server without dedicated revisions does not need Ray.
    from ray.serve.handle import DeploymentHandle

    # Not from Serve's cache, which throws handles away at random and would give out those that were shut down.
    plain: Any = DeploymentHandle(_DEPLOYMENT, app)
    return plain.options(
        method_name="run", _by_reference=False, request_serialization="pickle", response_serialization="noop"
    )
