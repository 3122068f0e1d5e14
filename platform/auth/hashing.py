"""Password hashing in its turn: argon2id takes tens of milliseconds of every core and 64 MiB, by design."""

import os
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

_AT_ONCE = max(2, os.cpu_count() or 2)
_turns: RunVar[CapacityLimiter] = RunVar("raymill-hashing")


def in_turn(endpoint: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
    """Let an endpoint that hashes a password wait for its turn, as a task and without one of the threads of others.

    As many run at once as there are cores, so a thousand logins at once take no more memory than a few, hold no more
    connections to the database, and leave threads to every other request.
    """

    @wraps(endpoint)
    async def waiting(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        return await run_sync(partial(endpoint, *args, **kwargs), limiter=_limiter())

    return waiting


def _limiter() -> CapacityLimiter:
    limiter = _turns.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_AT_ONCE)
        _turns.set(limiter)
    return limiter
