"""How many refusals of one minute have rows of their own in the audit log, so that a flood does not fill the disk."""

import time
from collections import Counter
from collections.abc import Callable

PER_ADDRESS = 20
PER_MINUTE = 600
MINUTE_S = 60.0
OTHERS = "other addresses"


class RefusalTally:
    """Admits the first refusals of each address within a minute, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin()

    def admits(self, address: str) -> bool:
        """Count a refusal and tell whether it has a row of its own."""
        is_one_of_many = self._admitted[address] >= PER_ADDRESS
        if is_one_of_many or self._admitted.total() >= PER_MINUTE:
            self._counted[address if is_one_of_many else OTHERS] += 1
            return False
        self._admitted[address] += 1
        return True

    def remaining_s(self) -> float:
        """Return the seconds until the minute ends."""
        return max(self._begun + MINUTE_S - self._clock(), 0.0)

    def close_minute(self, *, early: bool = False) -> dict[str, int]:
        """Begin another minute once this one has passed; return how many had no row, by address."""
        if self.remaining_s() > 0 and not early:
            return {}
        counted = dict(self._counted)
        self._begin()
        return counted

    def _begin(self) -> None:
        self._begun = self._clock()
        self._admitted: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
