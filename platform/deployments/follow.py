"""The state of one deployment as a stream of server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator
from hashlib import sha256

from fastapi.concurrency import run_in_threadpool
from fastapi.sse import ServerSentEvent

from ..auth.deps import authenticate
from ..kernel.errors import RaymillError
from ..kernel.resources import Resources
from . import service
from .schemas import DeploymentEvent, DeploymentStatus

_PERIOD_S = 0.25
_ON_THE_WAY = frozenset({DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING})


async def follow(
    resources: Resources, credential: str | None, deployment_id: str, *, seen: str | None, seconds: float, goes_on: bool
) -> AsyncIterator[ServerSentEvent]:
    """Yield the present state and each later one, until the change under way has come to its end or the time is up.

    Args:
        resources: The open connections.
        credential: Of whoever follows; the stream ends when it is worth nothing any more, or may not read this.
        deployment_id: The deployment.
        seen: Id of the last event that the client had; that state is not told again.
        seconds: How long at most.
        goes_on: Whether to follow later changes, too.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            state = await run_in_threadpool(_state, resources, credential, deployment_id)
        except RaymillError as error:
            yield ServerSentEvent(event="end", data={"type": error.type, "message": error.message})
            return
        if (id_ := _id(state)) != seen:
            yield ServerSentEvent(event="state", id=id_, data=state)
            seen = id_
        if time.monotonic() >= deadline or not (goes_on or state.status in _ON_THE_WAY):
            return
        await asyncio.sleep(_PERIOD_S)


def _state(resources: Resources, credential: str | None, deployment_id: str) -> DeploymentEvent:
    with resources.database.session() as session:
        principal = authenticate(session, resources, credential)
        return service.get_state(session, principal=principal, deployment_id=deployment_id)


def _id(state: DeploymentEvent) -> str:
    return sha256(state.model_dump_json().encode()).hexdigest()[:16]
