"""The state of one deployment as a stream of server-sent events.

Whether a deployment changed is asked once for all that are followed in this process; who follows one that did reads it
with the rights that they have then.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import Lock

from fastapi.concurrency import run_in_threadpool
from fastapi.sse import ServerSentEvent

from ..auth.deps import authenticate
from ..kernel.errors import RaymillError
from ..kernel.resources import Resources
from . import service
from .schemas import DeploymentEvent, DeploymentStatus

_PERIOD_S = 0.25
#: How soon a stream ends after its credential or the right to read was lost.
_CHECKED_S = 2.0
_ON_THE_WAY = frozenset({DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING})


class Watch:
    """Notices which of the followed deployments change, by one question for all of them; safe for threads."""

    def __init__(self, resources: Resources, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._resources = resources
        self._monotonic = monotonic
        self._lock, self._looking = Lock(), Lock()
        self._followed: Counter[str] = Counter()
        self._marks: dict[str, str] = {}
        self._looked_at = float("-inf")

    @contextmanager
    def following(self, deployment_id: str) -> Iterator[None]:
        """Watch a deployment until the block ends."""
        self._count(deployment_id, 1)
        try:
            yield
        finally:
            self._count(deployment_id, -1)

    async def mark(self, deployment_id: str) -> str | None:
        """Return what differs after each change of a followed deployment, as of a moment ago; None if none is known.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer.
        """
        is_due = self._monotonic() - self._looked_at >= _PERIOD_S
        # One looks, and the others go on with what was seen before.
        if is_due and self._looking.acquire(blocking=False):
            try:
                await run_in_threadpool(self._look)
            finally:
                self._looking.release()
        return self._marks.get(deployment_id)

    def _look(self) -> None:
        with self._lock:
            followed = list(self._followed)
        with self._resources.database.session() as session:
            self._marks = service.change_marks(session, followed)
        self._looked_at = self._monotonic()

    def _count(self, deployment_id: str, more: int) -> None:
        with self._lock:
            self._followed[deployment_id] += more
            self._followed += Counter()


async def follow(
    resources: Resources,
    watch: Watch,
    credential: str | None,
    deployment_id: str,
    *,
    seen: str | None,
    seconds: float,
    goes_on: bool,
) -> AsyncIterator[ServerSentEvent]:
    """Yield the present state and each later one, until the change under way has come to its end or the time is up.

    Args:
        resources: The open connections.
        watch: Where the deployment is followed.
        credential: Of whoever follows; the stream ends when it is worth nothing any more, or may not read this.
        deployment_id: The deployment.
        seen: Id of the last event that the client had; that state is not told again.
        seconds: How long at most.
        goes_on: Whether to follow later changes, too.
    """
    deadline, mark = time.monotonic() + seconds, None
    try:
        while True:
            state = await run_in_threadpool(_state, resources, credential, deployment_id)
            if (id_ := _id(state)) != seen:
                yield ServerSentEvent(event="state", id=id_, data=state)
                seen = id_
            if time.monotonic() >= deadline or not (goes_on or state.status in _ON_THE_WAY):
                return
            mark = await _next_mark(watch, deployment_id, mark, min(deadline, time.monotonic() + _CHECKED_S))
    except RaymillError as error:
        yield ServerSentEvent(event="end", data={"type": error.type, "message": error.message})


async def _next_mark(watch: Watch, deployment_id: str, known: str | None, until: float) -> str | None:
    """Wait for a change, or for the time at which the state is read anew all the same."""
    mark = known
    while mark == known and (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(_PERIOD_S, left))
        mark = await watch.mark(deployment_id)
    return mark


def _state(resources: Resources, credential: str | None, deployment_id: str) -> DeploymentEvent:
    with resources.database.session() as session:
        principal = authenticate(session, resources, credential)
        return service.get_state(session, principal=principal, deployment_id=deployment_id)


def _id(state: DeploymentEvent) -> str:
    return sha256(state.model_dump_json().encode()).hexdigest()[:16]
