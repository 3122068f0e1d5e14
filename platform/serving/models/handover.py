"""Traffic that moves to a revision which this server does not hold: the present ones answer until it is loaded.

A revision was warm before it had its first weight, but who is promoted or rolled back to later may have been dropped
from memory since.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from ..published.directory import Directory
from ..published.table import EndpointDocument, Revision
from .pool import ModelPool

# The publisher waits as long; what takes longer is loaded by the requests that ask for it.
_PATIENCE_S = 2.0


class Handover:
    """Loads what a new document moves traffic to."""

    def __init__(self, directory: Directory, pool: ModelPool, *, patience_s: float = _PATIENCE_S) -> None:
        self._directory = directory
        self._pool = pool
        self._patience_s = patience_s

    def awaited(self, document: EndpointDocument) -> list[Revision]:
        """Return the revisions that must be loaded before the document is taken over; none where nothing answers."""
        present = self._directory.endpoints.get(document.key)
        if present is None or not present.serving:
            return []
        answering = {route.revision.sha256 for route in present.serving}
        return [
            revision
            for revision in document.revisions
            if document.traffic.get(revision.number)
            and revision.app is None
            and revision.sha256 not in answering
            and self._pool.find(revision) is None
        ]

    async def load(self, document: EndpointDocument, revisions: Sequence[Revision]) -> None:
        """Load them all, or as many as the patience allows; what fails is told to those who ask for it."""
        loads = (self._pool.load(revision, (document.endpoint_id, revision.number)) for revision in revisions)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await asyncio.gather(*loads, return_exceptions=True)
