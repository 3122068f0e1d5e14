"""Requests that do not run on the event loop: they wait in a line for each model, and threads take them from it.

A thread takes when it has begun, not when it is asked for, so that requests that wait longer run together where their
endpoint lets them, and those whose client has gone are passed over. It goes on until nobody waits, or until others
need the core more. A run that nobody waits for any more is ended, where the model's format knows how.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from time import thread_time

from ..errors import QueueFull
from ..formats import Array, Halt, PoolModel, RunHalted
from ..pace import Pace
from ..protocol.v2 import Answer, Question, Target
from ..published.table import Batching
from ..records.metrics import Meter, Metrics
from .batching import Gain, RowsEntangled, can_join, join, part, rows_of, shape_of
from .runners import Runners

Codec = Callable[[Target, bytes, Mapping[bytes, bytes]], Question]
Outcome = Answer | Exception

# Joining is waited for only where requests came together lately.
_COMPANY = 1.5
_COMPANY_MEMORY = 0.8


class Room:
    """The requests of one endpoint that wait in this server, for a model to be loaded or for a thread."""

    __slots__ = ("by_revision", "lock", "waiting")

    def __init__(self) -> None:
        self.lock = Lock()
        self.waiting = 0
        #: The same by revision.
        self.by_revision: dict[Meter, int] = {}

    def enter(self, most: int, meter: Meter) -> None:
        """Count one more.

        Raises:
            QueueFull: If there are as many as may wait.
        """
        with self.lock:
            if self.waiting >= most:
                raise QueueFull(most)
            self.waiting += 1
            self.by_revision[meter] = self.by_revision.get(meter, 0) + 1

    @contextmanager
    def place(self, most: int, meter: Meter) -> Iterator[None]:
        """Count one more while the block lasts.

        Raises:
            QueueFull: If there are as many as may wait.
        """
        self.enter(most, meter)
        try:
            yield
        finally:
            with self.lock:
                self.leave(meter)

    def leave(self, meter: Meter) -> None:
        """Count one less; the lock is held."""
        self.waiting -= 1
        self.by_revision[meter] -= 1
        if not self.by_revision[meter]:
            del self.by_revision[meter]


class Work:
    """One request in line; it waits from its making until a thread takes it or its client leaves."""

    __slots__ = (
        "_room",
        "_waits",
        "batching",
        "body",
        "calls",
        "codec",
        "future",
        "headers",
        "meter",
        "outcome",
        "question",
        "run",
        "seconds",
        "target",
    )

    def __init__(
        self,
        room: Room,
        most: int,
        meter: Meter,
        codec: Codec,
        target: Target,
        body: bytes,
        headers: Mapping[bytes, bytes],
    ) -> None:
        """Enter the room.

        Raises:
            QueueFull: If it is full.
        """
        room.enter(most, meter)
        self._room = room
        self.meter = meter
        self._waits = True
        self.codec = codec
        self.target = target
        self.body = body
        self.headers = headers
        self.batching: Batching | None = None
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.question: Question | None = None
        self.outcome: Outcome | None = None
        #: The call of the model for it that is on.
        self.run: Run | None = None
        #: Of a thread's own time, for reading and, alone, running: waits for the interpreter's lock say nothing.
        self.seconds = 0.0
        #: Calls of the model that this was the first request of: 0 for one that was joined to another.
        self.calls = 0

    def leave(self) -> bool:
        """Stop waiting; tell whether it did until now."""
        with self._room.lock:
            waited, self._waits = self._waits, False
            if waited:
                self._room.leave(self.meter)
        if self.run and self.future.cancelled():
            self.run.end_unless_awaited()
        return waited

    def read(self) -> None:
        """Read the body; an error becomes the outcome."""
        begun = thread_time()
        try:
            self.question = self.codec(self.target, self.body, self.headers)
        except Exception as error:
            self.outcome = error
        self.seconds = thread_time() - begun

    def compute(self, model: PoolModel, halt: Halt | None) -> float:
        """Run alone and return the seconds that it took; an error becomes the outcome."""
        begun = thread_time()
        if question := self.question:
            try:
                self.outcome = question.answer(model.run(question.outputs, question.feeds, halt))
            except Exception as error:
                self.outcome = error
        seconds = thread_time() - begun
        self.seconds += seconds
        return seconds

    def word(self, question: Question, arrays: list[Array]) -> None:
        """Word outputs that were computed together with others'; an error becomes the outcome."""
        try:
            self.outcome = question.answer(arrays)
        except Exception as error:
            self.outcome = error

    def settle(self) -> None:
        """Tell whoever waits; nobody does when the time was up or the client left."""
        # They hold each other, and the body and its arrays would stay until the next full collection of garbage.
        self.run = None
        if self.future.done():
            return
        if isinstance(self.outcome, Exception):
            self.future.set_exception(self.outcome)
        elif self.outcome is not None:
            self.future.set_result(self.outcome)


class Run:
    """One call of a model, in a thread, for those who wait for it."""

    __slots__ = ("_works", "halt")

    def __init__(self, works: Sequence[Work], halt: Halt | None) -> None:
        self._works = works
        self.halt = halt
        for work in works:
            work.run = self

    def is_awaited(self) -> bool:
        """Tell whether anybody still waits; asked after the run was made known, so that nobody leaves unseen."""
        return not all(work.future.done() for work in self._works)

    def end_unless_awaited(self) -> None:
        """End it when all have left or their time is up, for it may be one that never ends."""
        if self.halt is not None and not self.is_awaited():
            self.halt.terminate = True


class Line:
    """The requests that wait for one model."""

    def __init__(
        self,
        model: PoolModel,
        pace: Pace,
        runners: Runners,
        metrics: Metrics,
        hold: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        """Begin with nobody in line.

        Args:
            model: What is run.
            pace: Learns how long single requests take.
            runners: Their threads run the model.
            metrics: Count the calls.
            hold: Keeps the model in memory, on the event loop, for as long as one thread runs it.
            release: Ends one hold.
        """
        self._model = model
        self._pace = pace
        self._runners = runners
        self._metrics = metrics
        self._hold, self._release = hold, release
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Work] = deque()
        #: Threads that run the model, and a token for each of them that has not begun yet.
        self._runs = 0
        self._coming: deque[None] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._company = 1.0
        self._gain = Gain()
        #: Whether the model lets rows be joined, and whether the latest request asked for it.
        self._joins, self._batches = True, False
        #: Calls of the model, and requests that they answered.
        self.calls, self.requests = 0, 0

    def add(self, work: Work, batching: Batching | None) -> None:
        """Let a request wait for its turn."""
        if batching is not None and self._joins and can_join(work.target.interface):
            work.batching = batching
        self._batches = work.batching is not None
        self._waiting.append(work)
        pause_s = self._pause_s(work.batching)
        if not pause_s:
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(pause_s, self._start)

    def _pause_s(self, batching: Batching | None) -> float:
        """Return how long to wait for company: not at all while threads run, for then it gathers by itself."""
        if batching is None or self._runs or self._company < _COMPANY or len(self._waiting) >= batching.max_size:
            return 0.0
        return batching.max_wait_ms / 1000

    def _start(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._lacks_threads() and self._runners.begin(self._runs, self._start):
            self._runs += 1
            self._hold()
            self._coming.append(None)
            self._runners.threads.submit(self._run)

    def _lacks_threads(self) -> bool:
        """Tell whether somebody waits whom no thread is about to take; who may be joined waits for a few others."""
        may_join = self._joins and self._batches
        return (self._runs if may_join else len(self._coming)) < len(self._waiting)

    def _run(self) -> None:
        """Take and run what waits; in a thread."""
        self._coming.pop()
        goes_on = True
        while goes_on:
            batch, goes_on = self._take(), False
            try:
                self._answer(batch)
                goes_on = bool(self._waiting) and not (self._runs > 1 and self._runners.is_crowded)
            finally:
                self._loop.call_soon_threadsafe(self._ran, batch, goes_on)

    def _ran(self, batch: list[Work], goes_on: bool) -> None:
        if not goes_on:
            self._runs -= 1
            self._release()
            self._runners.end()
        if batch:
            self._company = _COMPANY_MEMORY * self._company + (1 - _COMPANY_MEMORY) * len(batch)
        for work in batch:
            if isinstance(work.outcome, Answer):
                self.calls += work.calls
                self.requests += 1
                self._metrics.ran(work.meter, work.calls)
            work.settle()
        if self._waiting:
            self._start()

    def _take(self) -> list[Work]:
        first = self._next()
        if first is None:
            return []
        batch = [first]
        if first.batching and first.question and self._gain.pays():
            self._fill(batch, first.batching.max_size, first.question)
        return batch

    def _next(self) -> Work | None:
        while True:
            try:
                work = self._waiting.popleft()
            except IndexError:
                return None
            if work.future.done():
                continue
            if work.leave():
                work.read()
            return work

    def _fill(self, batch: list[Work], most: int, first: Question) -> None:
        shape, rows = shape_of(first), rows_of(first)
        while 0 < rows < most and (work := self._next()):
            question = work.question
            more = rows_of(question) if question and work.batching else 0
            if question and (not more or rows + more > most or shape_of(question) != shape):
                self._waiting.appendleft(work)
                return
            batch.append(work)
            rows += more

    def _answer(self, batch: list[Work]) -> None:
        ready = [work for work in batch if work.question]
        if len(ready) > 1 and self._answer_together(ready):
            return
        for work in ready:
            run = Run([work], self._model.halt())
            if run.is_awaited():
                self._answer_alone(work, run.halt)

    def _answer_alone(self, work: Work, halt: Halt | None) -> None:
        seconds = work.compute(self._model, halt)
        work.calls = 1
        if not isinstance(work.outcome, RunHalted):
            self._pace.learn(len(work.body), work.seconds)
        if work.batching and work.question and isinstance(work.outcome, Answer) and (rows := rows_of(work.question)):
            self._gain.learn(rows, seconds)

    def _answer_together(self, batch: list[Work]) -> bool:
        """Run a batch as one; when it fails tell so, that each may run alone and none fail for another's sake."""
        questions = [work.question for work in batch if work.question]
        rows = [rows_of(question) for question in questions]
        run = Run(batch, self._model.halt())
        if not run.is_awaited():
            return True
        begun = thread_time()
        try:
            arrays = self._model.run(questions[0].outputs, join(questions), run.halt)
            self._gain.learn(sum(rows), thread_time() - begun)
            parts = part(arrays, rows)
        except RowsEntangled:
            self._joins = False
            return False
        except RunHalted:
            return True
        except Exception:
            return False
        for work, question, own in zip(batch, questions, parts, strict=True):
            work.word(question, own)
        batch[0].calls = 1
        return True
