"""The threads that run what is too slow for the event loop, shared so that nobody's slow model holds up another's.

A model that runs nowhere gets a thread at once, however many the others hold; a further one only while fewer run than
the machine has cores. The kernel then shares the cores between them.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

# One for each of so many slow models that are asked at the same time; those that are not needed are never made.
_MOST_THREADS = 256


class Runners:
    """The threads of one model server; everything but ``is_crowded`` is asked on the event loop."""

    __slots__ = ("_cores", "_refused", "_running", "threads")

    def __init__(self, cores: int) -> None:
        self.threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="run")
        self._cores = cores
        self._running = 0
        self._refused: dict[Callable[[], None], None] = {}

    def begin(self, own: int, again: Callable[[], None]) -> bool:
        """Tell whether one more thread may run a model that ``own`` threads run already.

        Args:
            own: Threads that run the model.
            again: Called when it is worth asking again, after a refusal.
        """
        if own and self._running >= self._cores:
            self._refused[again] = None
            return False
        self._running += 1
        return True

    def end(self) -> None:
        """Take back what was begun, and let those ask again who were refused."""
        self._running -= 1
        while self._refused and self._running < self._cores:
            again = next(iter(self._refused))
            del self._refused[again]
            again()

    @property
    def is_crowded(self) -> bool:
        """Tell whether more threads run than the machine has cores."""
        return self._running > self._cores


class Turns:
    """So many at a time under each name; a name is forgotten when nobody has or awaits a turn under it."""

    __slots__ = ("_each", "_turns")

    def __init__(self, each: int) -> None:
        self._each = each
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Semaphore:
        """Return what is held during a turn."""
        turn = self._turns.get(name)
        if turn is None:
            turn = self._turns[name] = asyncio.Semaphore(self._each)
        return turn
