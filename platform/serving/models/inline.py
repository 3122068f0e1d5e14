"""Runs on the event loop itself, and a thread that ends those which do not end.

A model is run there when requests of that size were quick, but what an operator costs may lie in the values: a loop
takes its number of rounds from an input. While such a run lasts nobody else is answered, and no time limit is kept.
"""

import threading
import time

from ..formats import Array, Halt, RunHalted
from ..protocol.v2 import Answer, Question
from .pool import Loaded

# A look costs some 60 us with all that it takes to wake a thread: a thousandth of a core. What has been on at a look
# and has taken so much CPU time at a later one is ended: fifty to a hundred times what is expected of a run here.
_LOOK_S, _MOST_S = 0.05, 0.04
# Looks without a run in between, after which the thread sleeps until the next: an idle server is to cost nothing.
_QUIET_LOOKS = 20
_LARGE_BYTES = 1 << 16


class _Run:
    """One run, known by its identity."""

    __slots__ = ("halt",)

    def __init__(self, halt: Halt) -> None:
        self.halt = halt


class InlineRuns:
    """The runs on one event loop, one after the other, with their watch."""

    __slots__ = ("_closing", "_finished", "_is_asleep", "_latest", "_thread", "_waking")

    def __init__(self) -> None:
        self._latest: _Run | None = None
        self._finished: _Run | None = None
        self._is_asleep = False
        self._waking, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the thread that calls this."""
        # CPU time, for on a busy machine the clock on the wall says nothing of the model.
        clock = time.pthread_getcpuclockid(threading.get_ident())
        self._thread = threading.Thread(target=self._watch, args=(clock,), name="inline runs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._closing.set()
        self._waking.set()
        if self._thread:
            self._thread.join()

    def is_alive(self) -> bool:
        """Tell whether runs are watched."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, loaded: Loaded, question: Question) -> list[Array]:
        """Compute what the question asks for.

        Raises:
            ModelFailed: If the model refuses the values.
            RunHalted: If it took too long; the model is not run here again.
        """
        if loaded.halt is None:
            return loaded.model.run(question.outputs, question.feeds)
        self._latest = run = _Run(loaded.halt)
        if self._is_asleep:
            self._waking.set()
        try:
            return loaded.model.run(question.outputs, question.feeds, loaded.halt)
        except RunHalted:
            loaded.pace.distrust()
            raise
        finally:
            self._finished = run

    def learn(self, loaded: Loaded, size_bytes: int, seconds: float, answer: Answer) -> None:
        """Take over how long a request took, and distrust a model whose cost its size did not announce."""
        if seconds > _MOST_S and loaded.halt is not None and (loaded.halt.terminate or len(answer.body) > _LARGE_BYTES):
            # One operator cannot be ended; and what values blow up is also long to write down.
            loaded.pace.distrust()
        loaded.pace.learn(size_bytes, seconds)

    def _watch(self, clock: int) -> None:
        known, since, quiet = self._latest, 0.0, 0
        while not self._closing.wait(_LOOK_S):
            # The time first: a run that is still on afterwards has taken at least so much.
            now, run = time.clock_gettime(clock), self._latest
            if run is not known:
                known, since, quiet = run, now, 0
            elif run is not None and run is not self._finished:
                if now - since > _MOST_S:
                    run.halt.terminate = True
            elif (quiet := quiet + 1) > _QUIET_LOOKS:
                self._sleep(known)

    def _sleep(self, known: _Run | None) -> None:
        self._is_asleep = True
        # Whoever began before that has not seen it.
        if self._latest is known:
            self._waking.wait()
        self._waking.clear()
        self._is_asleep = False


__all__ = ["InlineRuns"]
