"""How many streams of events one process keeps open: so many in all, and so many of each principal."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from .errors import ExternalServiceError, RateLimited
from .settings import LimitSettings

_RETRY_S = 5


class TooManyStreams(RateLimited):
    """Raised when somebody follows too much at a time."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"You follow {limit} streams already; end one of them first.", retry_after_s=_RETRY_S)


class NoRoomForStreams(ExternalServiceError):
    """Raised when a process keeps as many streams open as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} streams are followed already; try again in {_RETRY_S} s, or ask for the state from time to time.",
            retry_after_s=_RETRY_S,
        )


class Followers:
    """Counts the open streams; safe for threads."""

    def __init__(self, limits: LimitSettings) -> None:
        self._most, self._most_of_one = limits.streams, limits.streams_per_principal
        self._lock = Lock()
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, principal_id: str) -> Iterator[None]:
        """Keep a stream open for a principal until the block ends.

        Raises:
            TooManyStreams: If they follow too much already.
            NoRoomForStreams: If the process does.
        """
        with self._lock:
            if self._open[principal_id] >= self._most_of_one:
                raise TooManyStreams(self._most_of_one)
            if self._open.total() >= self._most:
                raise NoRoomForStreams(self._most)
            self._open[principal_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[principal_id] -= 1
                self._open += Counter()
