"""Warming up: a new revision is loaded and has answered a request on every server before any client meets it.

The endpoint's document names the revisions that are ``warming``. Each server loads them beside its other work, puts a
request to them, and reports how it went for as long as they are named, so that a report survives a flush of Valkey.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import redis
import structlog

from ...kernel.errors import RaymillError, ValidationFailed
from ..published.channel import Channel
from ..published.directory import Directory, Endpoint, Route

log = structlog.get_logger(__name__)

Trial = tuple[str, int]
Warm = Callable[[Endpoint, Route], Awaitable[None]]

_ADVICE = " The request was made from the signature alone: a row of zeros and empty texts."


class Warmer:
    """Warms the revisions that the directory names, and reports."""

    def __init__(
        self, directory: Directory, channel: Channel, warm: Warm, *, period_s: float, timeout_s: float
    ) -> None:
        """Put the parts together.

        Args:
            directory: Names the revisions.
            channel: The way to the publisher.
            warm: Loads a revision and puts a request to it.
            period_s: Seconds between two reports of the same.
            timeout_s: Seconds to wait for Valkey.
        """
        self._directory = directory
        self._channel = channel
        self._warm = warm
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._running: dict[Trial, asyncio.Task[None]] = {}
        self._outcomes: dict[Trial, str] = {}
        #: Those whose reports must not be there any more when they are named again.
        self._past: set[Trial] = set()
        self._is_closed = False

    async def run(self) -> None:
        """Warm and report until closed."""
        while not self._is_closed:
            self._directory.warming_changed.clear()
            wanted = self._wanted()
            self._past = (self._past | self._outcomes.keys()) - wanted.keys()
            self._outcomes = {trial: reason for trial, reason in self._outcomes.items() if trial in wanted}
            self._begin(wanted)
            await self._report()
            await self._wait()
        for task in self._running.values():
            task.cancel()

    def close(self) -> None:
        """Let ``run`` end."""
        self._is_closed = True
        self._directory.warming_changed.set()

    async def _wait(self) -> None:
        """Wait for news; while something is warming, or a report is to be taken back, no longer than a period."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._period_s if self._directory.warming or self._past else None):
                await self._directory.warming_changed.wait()

    def _wanted(self) -> dict[Trial, tuple[Endpoint, Route]]:
        return {
            (endpoint.document.endpoint_id, number): (endpoint, endpoint.routes[str(number)])
            for endpoint in self._directory.warming.values()
            for number in endpoint.document.warming
        }

    def _begin(self, wanted: dict[Trial, tuple[Endpoint, Route]]) -> None:
        for trial, (endpoint, route) in wanted.items():
            if trial not in self._running and trial not in self._outcomes:
                task = asyncio.create_task(self._try(trial, endpoint, route), name=f"warm {trial[0]} {trial[1]}")
                self._running[trial] = task

    async def _try(self, trial: Trial, endpoint: Endpoint, route: Route) -> None:
        try:
            self._outcomes[trial] = await self._outcome(endpoint, route)
        except RaymillError as error:
            # No fault of the revision: nothing is reported, and it is tried again.
            log.info("warm_up_postponed", endpoint=endpoint.name, revision=trial[1], error=error.message)
            await asyncio.sleep(self._period_s)
        del self._running[trial]
        self._directory.warming_changed.set()

    async def _outcome(self, endpoint: Endpoint, route: Route) -> str:
        """Warm once and return what to report.

        Raises:
            RaymillError: If it is worth another attempt.
        """
        try:
            await self._warm(endpoint, route)
        except RaymillError as error:
            if error.retry_after_s is not None:
                raise
            return f"{error.message}{_ADVICE if _is_made_up(route, error) else ''}"
        except Exception as error:
            log.exception("warm_up_failed", endpoint=endpoint.name, revision=route.revision.number)
            return f"The warm-up failed: {error!r}."
        return ""

    async def _report(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                # A copy: trials end while Valkey is waited for.
                for (endpoint_id, number), reason in list(self._outcomes.items()):
                    await self._channel.report_warm(endpoint_id, number, reason)
                for trial in list(self._past):
                    await self._channel.retract_warm(*trial)
                    self._past.discard(trial)
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.info("warm_ups_reported_later", error=str(error))


def _is_made_up(route: Route, error: RaymillError) -> bool:
    return route.revision.example is None and isinstance(error, ValidationFailed)
