"""Follow a job's output over a websocket, as Ray's client does."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from fastapi import WebSocket
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from ..auth.permissions import Permission
from ..kernel.acting import current
from ..kernel.errors import ExternalServiceError, RaymillError
from ..kernel.resources import Resources
from ..train import submissions
from .ray_jobs_project import project_of_headers

POLL_S = 1.0
# Ray's client takes messages of 4 MiB, and a sign is up to four bytes.
_LONGEST_MESSAGE = 2**19
_POLICY_VIOLATION = 1008
_LONGEST_REASON = 120


async def follow(websocket: WebSocket, name: str) -> None:
    """Send what a job writes until it has ended; a caller who loses the right to read it is cut off.

    Raises:
        RaymillError: If the caller may not read the job, or follows too much; nothing was accepted then.
    """
    resources: Resources = websocket.app.state.resources
    text, has_ended = await run_in_threadpool(_read, resources, websocket, name, 0)
    acting = current()
    with resources.followers.one_more(acting.actor_id or "" if acting else ""):
        await websocket.accept()
        gone = asyncio.create_task(_disconnected(websocket))
        try:
            with suppress(WebSocketDisconnect):
                await _send_all(websocket, name, text, has_ended, gone)
        except RaymillError as error:
            await websocket.close(_POLICY_VIOLATION, error.message[:_LONGEST_REASON])
        finally:
            gone.cancel()


async def _send_all(websocket: WebSocket, name: str, text: str, has_ended: bool, gone: "asyncio.Task[None]") -> None:
    position = 0
    while True:
        for piece in _pieces(text):
            await websocket.send_text(piece)
        position += len(text)
        if has_ended:
            await websocket.close()
            return
        done, _ = await asyncio.wait({gone}, timeout=POLL_S)
        if done:
            return
        text, has_ended = await _read_on(websocket, name, position)


async def _read_on(websocket: WebSocket, name: str, position: int) -> tuple[str, bool]:
    try:
        return await run_in_threadpool(_read, websocket.app.state.resources, websocket, name, position)
    except ExternalServiceError:
        # The database is away for a moment: the output waits there.
        return "", False


def _read(resources: Resources, websocket: WebSocket, name: str, position: int) -> tuple[str, bool]:
    with resources.session() as session:
        project_id = project_of_headers(session, resources, websocket.headers, Permission.JOB_READ)
        job = submissions.get_program(session, project_id=project_id, name=name)
        return submissions.log_since(session, job.id, position), submissions.has_ended(job)


async def _disconnected(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _LONGEST_MESSAGE):
        yield text[start : start + _LONGEST_MESSAGE]
