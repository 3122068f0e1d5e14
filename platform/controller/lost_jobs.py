"""Takes over the jobs of clusters that are gone.

A cluster counts as gone when its controller has not renewed the cluster's lease for two lives of it; a controller that
dies while its cluster lives is replaced by Serve in less than that. After an outage of the database every lease looks
old, so nothing is judged until this controller has watched without a gap for long enough that others could renew.
"""

import time
from collections.abc import Callable

from sqlmodel import Session

from ..kernel.resources import Resources
from ..train.reconcile import recover
from .leases import living


class LostJobs:
    """The watch of one controller over the leases of all clusters."""

    def __init__(self, resources: Resources, *, prefix: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._resources = resources
        self._prefix = prefix
        self._monotonic = monotonic
        self._grace_s = resources.settings.controller.lease_s
        self._watch_s = self._grace_s / 2
        self._seen: float | None = None
        self._since = 0.0

    def step(self) -> None:
        """Look at the leases, and end or queue again the jobs of clusters whose lease is long over."""
        now = self._monotonic()
        if self._seen is None or now - self._seen > self._watch_s:
            self._since = now
        if now - self._since < self._watch_s:
            self._resources.database.ping()
        else:
            recover(self._resources, self._living)
        self._seen = now

    def _living(self, session: Session) -> list[str]:
        return living(session, prefix=self._prefix, grace_s=self._grace_s)
