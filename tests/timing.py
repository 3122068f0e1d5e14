"""Time in tests: a clock that is moved by hand, and waiting for what must come true soon."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def until(
    probe: Callable[[], Found], *, within_s: float = 20.0, what: str = "what was waited for", every_s: float = 0.01
) -> Found:
    """Return the first true answer of the probe.

    Raises:
        AssertionError: If there is none within the time.
    """
    deadline = time.monotonic() + within_s
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(every_s)
    return answer


def seconds_until(
    probe: Callable[[], object], *, within_s: float = 20.0, what: str = "what was waited for", every_s: float = 0.01
) -> float:
    """Return how long the probe took to come true."""
    started = time.monotonic()
    until(probe, within_s=within_s, what=what, every_s=every_s)
    return time.monotonic() - started


async def soon(probe: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Wait on the event loop until the probe is true.

    Raises:
        TimeoutError: If it is not within the time.
    """
    deadline = time.monotonic() + within_s
    while not probe():
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.005)
