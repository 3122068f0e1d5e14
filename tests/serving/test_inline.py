"""Runs on the event loop: one that does not end holds up nobody, and is ended."""

import asyncio
import os
import threading
import time

import httpx
import onnx_models
import pytest
from plane import MLP, ROUNDS, Plane
from servers_in_process import Running, serving

from onnx_makers import ENDLESS
from timing import soon

pytestmark = pytest.mark.alone

TIMEOUT_S = 0.5
ROW = [[0.1, 0.2, 0.3, 0.4]]


@pytest.fixture
def plane_with_rounds(plane, tmp_path) -> Plane:
    plane.grants()
    plane.endpoint("digits.mlp", plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP), endpoint_id="dep_2")
    rounds = plane.revision(onnx_models.rounds(tmp_path / "rounds.onnx"), ROUNDS)
    plane.endpoint("a.rounds", rounds, timeout_s=TIMEOUT_S)
    return plane


async def count(running: Running, plane: Plane, rounds: int) -> httpx.Response:
    """Ask for so many rounds, in a body of one size."""
    tensor = {"name": "n", "shape": [1], "datatype": "INT64", "data": [rounds]}
    body = {"id": "x" * (12 - len(str(rounds))), "inputs": [tensor]}
    return await running.client.post("/v2/models/a.rounds/infer", json=body, headers=plane.bearer())


def is_inline(running: Running) -> bool:
    (loaded,) = (loaded for loaded in running.parts.pool.held() if loaded.meter == ("dep_1", 1))
    return loaded.pace.is_quick(100)


async def neighbours(running: Running, plane: Plane, until: asyncio.Task) -> float:
    """Ask another model over and over, and return the longest that an answer took."""
    longest = 0.0
    while not until.done():
        begun = time.perf_counter()
        answer = await running.infer("digits.mlp", ROW, plane.bearer())
        assert answer.status_code == 200
        # An answer from the loop itself never leaves it.
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - begun)
    return longest


def test_a_run_that_never_ends_is_a_504_and_holds_up_nobody(plane_with_rounds):
    plane = plane_with_rounds

    async def run():
        async with serving(plane) as running:
            assert (await count(running, plane, 5)).json()["outputs"][0]["data"] == [5]
            for _ in range(100):
                if is_inline(running):
                    break
                await count(running, plane, 5)
            assert is_inline(running)
            longest, late = 0.0, []
            # More often than there are cores, for each that went on would keep one.
            for _ in range((os.cpu_count() or 1) + 2):
                begun = time.perf_counter()
                asked = asyncio.create_task(count(running, plane, ENDLESS))
                longest = max(longest, await neighbours(running, plane, asked))
                late.append((asked.result().status_code, time.perf_counter() - begun))
                assert not is_inline(running)
            await soon(lambda: not running.parts.invoker._runners._running)
            return longest, late, await count(running, plane, 7), running.parts.is_alive()

    longest, late, answer, is_alive = asyncio.run(run())
    assert [status for status, _ in late] == [504] * len(late)
    assert all(TIMEOUT_S <= seconds < TIMEOUT_S + 5 for _, seconds in late)
    assert longest < 5
    assert answer.json()["outputs"][0]["data"] == [7]
    assert is_alive
    assert not any(thread.name == "inline runs" for thread in threading.enumerate())
