"""The pool of loaded models: bounded, shared, never dropping what runs."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymill.serving.errors import ModelBroken, ModelUnavailable
from raymill.serving.models.lines import Line
from raymill.serving.models.pool import Loaded, ModelPool, ModelTooLarge
from raymill.serving.models.runners import Runners
from raymill.serving.published.table import Revision
from raymill.serving.records.metrics import Metrics
from timing import soon

SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}


@dataclass
class Weight:
    """A model that only weighs."""

    size_bytes: int

    def halt(self):
        return None

    def run(self, outputs, feeds, halt=None):
        return []


def revision(number: int, size: int) -> Revision:
    return Revision(number=1, format="weight", uri="x", sha256=f"{number:064x}", size_bytes=size, signature=SIGNATURE)


class Shelf:
    """A pool over artifacts that are nothing but their size."""

    def __init__(self, capacity: int, *, idle_s: float = 100.0) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.fetched: list[str] = []
        self.open_to = ""
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._executor, self.metrics = ThreadPoolExecutor(4), Metrics()
        self.pool = ModelPool(
            self.fetch,
            self._executor,
            capacity_bytes=capacity,
            idle_s=idle_s,
            metrics=self.metrics,
            loaders=lambda format_name: lambda size, signature: Weight(size),
            monotonic=lambda: self.now,
        )

    def fetch(self, revision: Revision) -> int:
        self.asked.append(revision.sha256)
        assert revision.sha256 == self.open_to or self.gate.wait(5)
        self.fetched.append(revision.sha256)
        if self.error:
            raise self.error
        return revision.size_bytes

    def close(self) -> None:
        self._executor.shutdown()


@pytest.fixture
def shelf():
    shelf = Shelf(100)
    yield shelf
    shelf.close()


def test_concurrent_loads_of_one_model_are_one_load(shelf):
    async def run():
        return await asyncio.gather(*(shelf.pool.load(revision(1, 10)) for _ in range(20)))

    assert len({id(loaded) for loaded in asyncio.run(run())}) == 1
    assert len(shelf.fetched) == shelf.pool.loads == 1


def test_the_least_recently_used_goes_first(shelf):
    async def run():
        for number in (1, 2, 3):
            await shelf.pool.load(revision(number, 30), ("dep_1", number))
        assert shelf.pool.find(revision(1, 30))
        await shelf.pool.load(revision(4, 30))
        return [number for number in (1, 2, 3, 4) if shelf.pool.find(revision(number, 30))]

    assert asyncio.run(run()) == [1, 3, 4]
    assert (shelf.pool.size_bytes, shelf.pool.evictions) == (90, 1)
    counted = shelf.metrics.take()
    assert {field: value for _, field, value in zip(*[iter(counted)] * 3, strict=True)} == {
        "1:loads": 1,
        "2:loads": 1,
        "2:evictions": 1,
        "3:loads": 1,
    }


def test_a_model_in_use_stays_and_is_trimmed_when_it_is_released(shelf):
    async def run():
        busy = await shelf.pool.load(revision(1, 80))
        shelf.pool.hold(busy)
        await shelf.pool.load(revision(2, 80))
        over = shelf.pool.size_bytes
        shelf.pool.release(busy)
        return over

    assert asyncio.run(run()) == 160
    assert shelf.pool.size_bytes == 80


def test_one_load_does_not_wait_for_another(shelf):
    async def run():
        shelf.gate.clear()
        slow = asyncio.create_task(shelf.pool.load(revision(1, 10)))
        await soon(lambda: shelf.asked)
        shelf.open_to = revision(2, 10).sha256
        quick = await shelf.pool.load(revision(2, 10))
        is_loading = not slow.done()
        shelf.gate.set()
        await slow
        return isinstance(quick, Loaded) and is_loading

    assert asyncio.run(run())


def test_the_loads_of_one_project_leave_threads_to_the_others(shelf):
    async def run():
        shelf.gate.clear()
        many = [asyncio.create_task(shelf.pool.load(revision(number, 1))) for number in range(10)]
        await soon(lambda: len(shelf.asked) == 3)
        shelf.open_to = revision(20, 1).sha256
        theirs = await asyncio.wait_for(shelf.pool.load(revision(20, 1).model_copy(update={"uri": "prj_2/y"})), 5)
        asked = len(shelf.asked)
        shelf.gate.set()
        return theirs, asked, await asyncio.gather(*many)

    theirs, asked, loaded = asyncio.run(run())
    assert isinstance(theirs, Loaded)
    assert (asked, len(loaded)) == (4, 10)


def test_a_caller_that_gives_up_does_not_stop_the_load(shelf):
    async def run():
        shelf.gate.clear()
        callers = [asyncio.create_task(shelf.pool.load(revision(1, 10))) for _ in range(2)]
        await asyncio.sleep(0)
        callers[0].cancel()
        shelf.gate.set()
        return await callers[1]

    assert asyncio.run(run()).size_bytes == 10


def test_a_failed_load_is_remembered_and_tried_again_after_a_growing_pause(shelf):
    async def attempt():
        try:
            await shelf.pool.load(revision(1, 10))
        except ModelBroken as error:
            return error.message
        return "loaded"

    async def run():
        shelf.error = ModelBroken("it is broken")
        answers = []
        for now in (0.0, 0.9, 1.1, 2.9, 3.2):
            shelf.now = now
            answers.append((await attempt(), len(shelf.fetched)))
        shelf.error, shelf.now = None, 10.0
        return answers, await attempt()

    answers, last = asyncio.run(run())
    assert [count for _, count in answers] == [1, 1, 2, 2, 3]
    assert {message for message, _ in answers} == {"it is broken"}
    assert last == "loaded"
    assert not shelf.pool.is_failing(revision(1, 10))


def test_a_revision_that_was_made_later_does_not_wait_for_the_pause(shelf):
    later = revision(1, 10).model_copy(update={"made_at": 1.0})

    async def run():
        shelf.error = ModelBroken("it is broken")
        for each in (revision(1, 10), later, later, revision(1, 10)):
            with pytest.raises(ModelBroken):
                await shelf.pool.load(each)

    asyncio.run(run())
    assert len(shelf.fetched) == 2


def test_a_file_that_one_project_lost_is_not_missed_by_another_that_has_the_same(shelf):
    mine, theirs = (revision(1, 10).model_copy(update={"uri": f"{project}/x"}) for project in ("prj_1", "prj_2"))

    async def run():
        shelf.error = ModelBroken("it is gone")
        with pytest.raises(ModelBroken):
            await shelf.pool.load(mine)
        shelf.error = None
        await asyncio.gather(shelf.pool.load(theirs), shelf.pool.load(theirs.model_copy(update={"uri": "prj_3/x"})))
        assert await shelf.pool.load(mine)

    asyncio.run(run())
    assert (shelf.pool.size_bytes, shelf.pool.loads) == (10, 1)


def test_an_unavailable_store_keeps_its_retry_after(shelf):
    async def run():
        shelf.error = ModelUnavailable("away", retry_after_s=2)
        for _ in range(2):
            with pytest.raises(ModelUnavailable) as refused:
                await shelf.pool.load(revision(1, 10))
            assert refused.value.retry_after_s == 2

    asyncio.run(run())


def test_an_unforeseen_error_is_not_remembered(shelf):
    async def run():
        shelf.error = LookupError("bug")
        with pytest.raises(LookupError):
            await shelf.pool.load(revision(1, 10))
        shelf.error = None
        return await shelf.pool.load(revision(1, 10))

    assert asyncio.run(run()).size_bytes == 10


def test_what_cannot_fit_is_refused_without_dropping_anything(shelf):
    async def run():
        await shelf.pool.load(revision(1, 90))
        with pytest.raises(ModelTooLarge):
            await shelf.pool.load(revision(2, 101))

    asyncio.run(run())
    assert shelf.pool.size_bytes == 90


def test_idle_models_are_dropped_and_used_ones_stay(shelf):
    async def run():
        for number in (1, 2, 3):
            await shelf.pool.load(revision(number, 10))
        shelf.pool.hold(shelf.pool.find(revision(3, 10)))
        shelf.now = 90.0
        shelf.pool.find(revision(1, 10))
        shelf.now = 150.0
        shelf.pool.drop_idle()

    asyncio.run(run())
    assert shelf.pool.size_bytes == 20


def test_the_memory_of_a_dropped_model_is_free_at_once(shelf):
    async def run():
        loaded = await shelf.pool.load(revision(1, 10))
        hold, release = partial(shelf.pool.hold, loaded), partial(shelf.pool.release, loaded)
        loaded.line = Line(loaded.model, loaded.pace, Runners(1), shelf.metrics, hold, release)
        return weakref.ref(loaded.model)

    gc.disable()
    try:
        model = asyncio.run(run())
        shelf.now = 1000.0
        shelf.pool.drop_idle()
        assert model() is None
    finally:
        gc.enable()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["load", "hold", "release", "idle"]), st.integers(0, 9), st.integers(0, 30)),
        max_size=60,
    )
)
def test_the_bound_is_never_exceeded_by_what_could_be_dropped(steps):
    sizes = [7, 13, 20, 25, 31, 40, 55, 60, 99, 100]
    shelf = Shelf(100, idle_s=10.0)
    held: dict[int, Loaded] = {}

    async def run():
        latest = 0
        for step, number, seconds in steps:
            shelf.now += seconds
            loads = shelf.pool.loads
            if step == "load":
                await shelf.pool.load(revision(number, sizes[number]))
            elif step == "hold" and number not in held and (loaded := shelf.pool.find(revision(number, 0))):
                shelf.pool.hold(loaded)
                held[number] = loaded
            elif step == "release" and number in held:
                shelf.pool.release(held.pop(number))
            elif step == "idle":
                shelf.pool.drop_idle()
            in_use = sum(loaded.size_bytes for loaded in held.values())
            # While models in use fill the pool, the latest newcomer is kept beside them and no other.
            if shelf.pool.loads > loads:
                latest = sizes[number]
            if shelf.pool.size_bytes <= 100:
                latest = 0
            assert shelf.pool.size_bytes <= max(100, in_use + latest)
            for other, loaded in held.items():
                assert shelf.pool._models[f"{other:064x}"] is loaded

    asyncio.run(run())
    shelf.close()
