"""How often the log of a running job is looked at.

Ray's dashboard gives a log whole, so each look costs its whole length. A job that goes on writing is looked at about
each second, a quiet one less and less often, and a long log the less often the longer it is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

_SHORTEST_S, _QUIET_S, _LONGEST_S = 0.5, 8.0, 30.0
# A log of this many characters is read about once a second.
_CHARS_PER_S = 2_000_000


@dataclass(frozen=True)
class _Look:
    length: int
    pause_s: float
    due: float


class LogPace:
    """Remembers when each job's log is to be looked at next."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._looks: dict[str, _Look] = {}

    def is_due(self, job: str) -> bool:
        """Tell whether another look is worth its price."""
        last = self._looks.get(job)
        return last is None or self._monotonic() >= last.due

    def looked(self, job: str, length: int) -> None:
        """Note that the log was read and how many characters it has."""
        last = self._looks.get(job)
        grew = last is None or length > last.length
        pause_s = _SHORTEST_S if last is None or grew else min(2 * last.pause_s, _QUIET_S)
        price_s = min(length / _CHARS_PER_S, _LONGEST_S)
        self._looks[job] = _Look(length, pause_s, self._monotonic() + max(pause_s, price_s))

    def forget(self, job: str) -> None:
        """Drop what is remembered of a job that has ended."""
        self._looks.pop(job, None)
