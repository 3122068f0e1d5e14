"""Requests that wait for a model's threads: in order, bounded, joined where that is asked for, dropped when left."""

import asyncio
import threading
import time

import numpy as np
import orjson
import pytest

from raymill.serving.errors import ModelFailed, QueueFull
from raymill.serving.formats import RunHalted
from raymill.serving.models.lines import Line, Room, Work
from raymill.serving.models.runners import Runners
from raymill.serving.pace import Pace
from raymill.serving.protocol.instances import predict
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Target
from raymill.serving.published.table import Batching, Signature
from raymill.serving.records.metrics import Metrics
from timing import soon

SPEC = {"name": "x", "datatype": "FP32", "shape": [-1]}
TARGET = Target("p.m", "1", Interface(Signature.model_validate({"inputs": [SPEC], "outputs": [SPEC]})))
METER = ("dep_1", 1)
TOGETHER = Batching(max_size=8)


class Gated:
    """A model that doubles, holds its first call until the gate opens, and remembers what it was called with."""

    size_bytes = 0

    def __init__(self):
        self.calls: list[list[float]] = []
        self.gate, self.entered = threading.Event(), threading.Event()
        self.poison: float | None = None
        self.answers_rows = True

    def halt(self):
        return None

    def run(self, outputs, feeds, halt=None):
        rows = feeds["x"].tolist()
        self.calls.append(rows)
        self.entered.set()
        assert self.gate.wait(5)
        if self.poison in rows:
            raise ModelFailed(f"It does not take {self.poison}.")
        return [feeds["x"] * 2] if self.answers_rows else [np.ones(1, np.float32)]


class Counter:
    """What a line has on hold."""

    def __init__(self):
        self.held = 0

    def hold(self):
        self.held += 1

    def release(self):
        self.held -= 1


class Desk:
    """One line with one thread, whose first request is being run when the others arrive."""

    def __init__(self, model: Gated | None = None):
        self.model, self.holds, self.room = model or Gated(), Counter(), Room()
        self.runners, self.metrics, self.pace = Runners(1), Metrics(), Pace()

    def ask(self, value: float, batching: Batching | None, most: int = 100) -> Work:
        work = Work(self.room, most, METER, predict, TARGET, orjson.dumps({"instances": [value]}), {})
        self.line.add(work, batching)
        return work

    async def first(self) -> Work:
        self.line = Line(self.model, self.pace, self.runners, self.metrics, self.holds.hold, self.holds.release)
        work = self.ask(0.0, None)
        await asyncio.to_thread(self.model.entered.wait, 5)
        return work


def at_the_desk(scene):
    desk = Desk()

    async def play():
        first = await desk.first()
        try:
            return await scene(desk)
        finally:
            desk.model.gate.set()
            await first.future
            await soon(lambda: not desk.holds.held)

    try:
        return desk, asyncio.run(play())
    finally:
        desk.runners.threads.shutdown()


async def answers(works: list[Work]) -> list[object]:
    settled = await asyncio.gather(*(work.future for work in works), return_exceptions=True)
    return [one if isinstance(one, Exception) else orjson.loads(one.body)["predictions"] for one in settled]


def test_requests_run_one_by_one_in_their_order_unless_they_may_be_joined():
    async def scene(desk):
        works = [desk.ask(float(value), None) for value in (1, 2, 3)]
        desk.model.gate.set()
        return await answers(works)

    desk, given = at_the_desk(scene)
    assert given == [[2.0], [4.0], [6.0]]
    assert desk.model.calls == [[0.0], [1.0], [2.0], [3.0]]


def test_requests_that_wait_run_together_up_to_the_size():
    async def scene(desk):
        works = [desk.ask(float(value), TOGETHER) for value in range(1, 12)]
        desk.model.gate.set()
        return await answers(works)

    desk, given = at_the_desk(scene)
    assert given == [[2.0 * value] for value in range(1, 12)]
    assert sorted(map(len, desk.model.calls)) == [1, 3, 8]
    assert (desk.line.calls, desk.line.requests) == (3, 12)
    assert desk.metrics.take() == ["metrics:dep_1", "1:calls", 3, "metrics:dep_1", "1:called", 12]


def test_one_bad_request_does_not_fail_those_that_it_was_joined_with():
    async def scene(desk):
        desk.model.poison = 2.0
        works = [desk.ask(float(value), TOGETHER) for value in (1, 2, 3)]
        unreadable = Work(desk.room, 9, METER, predict, TARGET, b'{"instances": ["x"]}', {})
        desk.line.add(unreadable, TOGETHER)
        desk.model.gate.set()
        return await answers([*works, unreadable])

    _, (first, second, third, fourth) = at_the_desk(scene)
    assert (first, third) == ([2.0], [6.0])
    assert isinstance(second, ModelFailed)
    assert "numbers" in str(fourth)


def test_a_model_that_does_not_answer_row_by_row_is_never_joined_again():
    async def scene(desk):
        desk.model.answers_rows = False
        works = [desk.ask(float(value), TOGETHER) for value in (1, 2)]
        desk.model.gate.set()
        first = await answers(works)
        return first, await answers([desk.ask(float(value), TOGETHER) for value in (3, 4)])

    desk, given = at_the_desk(scene)
    assert given == ([[1.0], [1.0]], [[1.0], [1.0]])
    assert desk.model.calls == [[0.0], [1.0, 2.0], [1.0], [2.0], [3.0], [4.0]]


def test_whoever_leaves_gives_up_its_place_and_is_not_run():
    async def scene(desk):
        leaver, stayer = desk.ask(1.0, None), desk.ask(2.0, None)
        waiting = desk.room.by_revision[METER]
        leaver.future.cancel()
        leaver.leave()
        left = desk.room.waiting
        desk.model.gate.set()
        return (waiting, left), await answers([stayer]), desk.room.waiting

    desk, (counts, given, at_the_end) = at_the_desk(scene)
    assert (counts, given, at_the_end) == ((2, 1), [[4.0]], 0)
    assert desk.room.by_revision == {}
    assert desk.model.calls == [[0.0], [2.0]]


class Switch:
    """A halt that can be waited for."""

    def __init__(self):
        self.event = threading.Event()

    @property
    def terminate(self) -> bool:
        return self.event.is_set()

    @terminate.setter
    def terminate(self, value: bool) -> None:
        assert value
        self.event.set()


class Endless(Gated):
    """A model that computes until it is ended."""

    def __init__(self):
        super().__init__()
        self.halts: list[Switch] = []

    def halt(self):
        self.halts.append(Switch())
        return self.halts[-1]

    def run(self, outputs, feeds, halt=None):
        self.calls.append(feeds["x"].tolist())
        self.entered.set()
        assert halt.event.wait(5)
        raise RunHalted


def test_a_run_is_ended_when_the_last_who_waits_for_it_leaves():
    desk = Desk(Endless())

    def leave(work: Work) -> None:
        work.future.cancel()
        work.leave()

    async def play():
        alone = await desk.first()
        pair = [desk.ask(float(value), TOGETHER) for value in (1, 2)]
        leave(alone)
        await soon(lambda: len(desk.model.calls) == 2)
        leave(pair[0])
        assert [halt.terminate for halt in desk.model.halts] == [True, False]
        leave(pair[1])
        await soon(lambda: not desk.holds.held)

    with desk.runners.threads:
        asyncio.run(play())
    assert desk.model.calls == [[0.0], [1.0, 2.0]]
    assert all(halt.terminate for halt in desk.model.halts)
    # How long a run took that was ended says nothing of the model.
    assert not any(desk.pace.is_quick(size) for size in range(100))


def test_no_more_than_the_room_holds_may_wait_and_running_ones_do_not_count():
    async def scene(desk):
        works = [desk.ask(float(value), TOGETHER, most=2) for value in (1, 2)]
        with pytest.raises(QueueFull) as refused:
            desk.ask(3.0, TOGETHER, most=2)
        desk.model.gate.set()
        return refused.value, await answers(works), await answers([desk.ask(4.0, TOGETHER, most=2)])

    _, (refused, given, later) = at_the_desk(scene)
    assert (refused.status, refused.headers) == (429, {"Retry-After": "1"})
    assert given == [[2.0], [4.0]]
    assert later == [[8.0]]


def test_company_is_waited_for_only_while_requests_come_together():
    patient = Batching(max_size=2, max_wait_ms=1000)

    async def scene(desk):
        desk.model.gate.set()
        alone = await asyncio.wait_for(desk.ask(1.0, patient).future, 0.9)
        desk.line._company = 2.0
        pair = [desk.ask(2.0, patient)]
        waited = desk.room.waiting
        pair.append(desk.ask(3.0, patient))
        return alone, waited, await asyncio.wait_for(answers(pair), 0.9)

    desk, (_, waited, given) = at_the_desk(scene)
    assert (waited, given) == (1, [[4.0], [6.0]])
    assert desk.model.calls[-1] == [2.0, 3.0]


class Doubler:
    """A model that doubles."""

    size_bytes = 0

    def halt(self):
        return None

    def run(self, outputs, feeds, halt=None):
        return [feeds["x"] * 2]


def test_many_threads_and_leavers_lose_and_mix_up_nothing():
    holds, room, random = Counter(), Room(), np.random.default_rng(1)

    async def client(line: Line, value: float) -> None:
        work = Work(room, 10_000, METER, predict, TARGET, orjson.dumps({"instances": [value]}), {})
        try:
            line.add(work, (None, TOGETHER, Batching(max_size=3, max_wait_ms=1))[random.integers(3)])
            if random.random() < 0.3:
                await asyncio.sleep(random.random() / 1000)
                work.future.cancel()
            assert orjson.loads((await work.future).body) == {"predictions": [2 * value]}
        except asyncio.CancelledError:
            pass
        finally:
            work.leave()

    async def play() -> Line:
        line = Line(Doubler(), Pace(), runners, Metrics(), holds.hold, holds.release)
        for start in range(0, 2000, 200):
            await asyncio.gather(*(client(line, float(value)) for value in range(start, start + 200)))
        await soon(lambda: not holds.held)
        return line

    runners = Runners(4)
    with runners.threads:
        line = asyncio.run(play())
    assert room.waiting == 0
    assert line.calls < line.requests <= 2000


def held_up(cores: int, scene):
    """Play a scene with two models whose calls last until their gates open, and with what runs them."""
    slow, neighbour, room, holds = Gated(), Gated(), Room(), Counter()
    runners = Runners(cores)

    async def play():
        lines = [Line(model, Pace(), runners, Metrics(), holds.hold, holds.release) for model in (slow, neighbour)]

        def ask(line: Line, value: float) -> Work:
            work = Work(room, 100, METER, predict, TARGET, orjson.dumps({"instances": [value]}), {})
            line.add(work, None)
            return work

        works = [ask(lines[0], float(value)) for value in range(6)]
        try:
            await soon(lambda: len(slow.calls) == cores)
            await scene(slow, neighbour, works, lambda value: ask(lines[1], value))
        finally:
            slow.gate.set()
            neighbour.gate.set()
            await asyncio.gather(*(work.future for work in works))
            await soon(lambda: not holds.held)

    with runners.threads:
        asyncio.run(play())


@pytest.mark.parametrize("cores", [1, 2])
def test_a_slow_model_takes_every_core_and_no_thread_from_its_neighbour(cores):
    async def scene(slow, neighbour, works, ask):
        neighbour.gate.set()
        for value in (7.0, 8.0):
            assert await asyncio.wait_for(answers([ask(value)]), 5) == [[2 * value]]
        assert len(slow.calls) == cores

    held_up(cores, scene)


def test_a_model_with_several_threads_gives_one_back_to_its_neighbour():
    async def scene(slow, neighbour, works, ask):
        works.append(ask(7.0))
        await soon(lambda: neighbour.calls)
        running = set()

        def run(outputs, feeds, halt):
            running.add(threading.get_ident())
            time.sleep(0.01)
            return [feeds["x"]]

        slow.run = run
        slow.gate.set()
        await answers(works[:-1])
        assert len(running) == 1

    held_up(2, scene)
