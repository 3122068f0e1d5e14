"""Requests that wait in a model server: bounded, timed, dropped when their client leaves, and nobody else's trouble."""

import asyncio
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx_models
import orjson
import pytest
from plane import MLP, SCALE, Plane
from servers_in_process import Running, serving

from raymill.kernel.settings import ServingSettings
from raymill.serving.published.table import Batching, Signature
from raymill.serving.records.gauges import RevisionGauges
from timing import soon

ROW = [[0.1, 0.2, 0.3, 0.4]]
WAIT = 'import sys; order = sys.stdin.read(); \'"FP32","shape":[-1,1]\' in order and open(sys.argv[1]).read()'


class Gate:
    """Holds up the load of `a.scale`: its trial waits until somebody writes to a pipe."""

    def __init__(self, plane: Plane, tmp_path: Path) -> None:
        self.plane = plane
        self.pipe = tmp_path / "pipe"
        os.mkfifo(self.pipe)

    def close(self, running: Running) -> None:
        running.parts.quarantine._command = (sys.executable, "-c", WAIT, str(self.pipe))

    async def open(self) -> None:
        await asyncio.to_thread(self.pipe.write_text, "go on")


@pytest.fixture
def gate(tmp_path) -> Gate:
    plane = Plane(tmp_path / "home", serving=ServingSettings(try_models="all"))
    plane.grants()
    plane.endpoint("digits.mlp", plane.revision(onnx_models.mlp(tmp_path / "mlp.onnx"), MLP), endpoint_id="dep_2")
    return Gate(plane, tmp_path)


def scale(gate: Gate, tmp_path, **more) -> None:
    revision = gate.plane.revision(onnx_models.scale(tmp_path / "scale.onnx", 2.0), SCALE)
    gate.plane.endpoint("a.scale", revision, **more)


def waiting(running: Running) -> int:
    return running.parts.directory.endpoints["a.scale"].room.waiting


def asked(running: Running, gate: Gate) -> asyncio.Task:
    return asyncio.create_task(running.infer("a.scale", [[1.0]], gate.plane.bearer(), input="x"))


def test_a_cold_start_holds_so_many_requests_and_no_other_models_are_held_up(gate, tmp_path):
    scale(gate, tmp_path, max_queued=3)

    async def run():
        async with serving(gate.plane) as running:
            gate.close(running)
            waiters = [asked(running, gate) for _ in range(3)]
            await soon(lambda: waiting(running) == 3)
            told = running.parts.gauges._read()
            assert (told.server["waiting"], told.revisions) == (3, {("dep_1", 1): RevisionGauges(3, 0)})
            refused = await asked(running, gate)
            other = await running.infer("digits.mlp", ROW, gate.plane.bearer())
            live = await running.client.get("/v2/health/live")
            await gate.open()
            answers = [await waiter for waiter in waiters]
            return refused, other, live, answers, waiting(running)

    refused, other, live, answers, left = asyncio.run(run())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["type"] == "RATE_LIMIT_EXCEEDED"
    assert (other.status_code, live.status_code) == (200, 200)
    assert [answer.json()["outputs"][0]["data"] for answer in answers] == [[2.0]] * 3
    assert left == 0


def test_without_a_bound_of_the_endpoint_the_setting_holds(gate, tmp_path):
    plane = Plane(gate.plane.home, serving=ServingSettings(try_models="all", max_queued=1))
    scale(gate, tmp_path)

    async def run():
        async with serving(plane) as running:
            gate.close(running)
            first = asked(running, gate)
            await soon(lambda: waiting(running) == 1)
            second = await asked(running, gate)
            await gate.open()
            return await first, second

    first, second = asyncio.run(run())
    assert (first.status_code, second.status_code) == (200, 429)


def test_a_request_that_waits_for_a_load_too_long_is_a_504_and_the_load_goes_on(gate, tmp_path):
    scale(gate, tmp_path, timeout_s=0.5)

    async def run():
        async with serving(gate.plane) as running:
            gate.close(running)
            late = await asked(running, gate)
            left = waiting(running)
            await gate.open()
            await soon(lambda: running.parts.pool.loads)
            return late, left, await asked(running, gate)

    late, left, answer = asyncio.run(run())
    assert (late.status_code, late.json()["type"], left) == (504, "EXTERNAL_SERVICE_ERROR", 0)
    assert answer.status_code == 200


class Client:
    """Asks as an ASGI server does, which passes on what comes of the body, and the client's leaving."""

    def __init__(self, running: Running, gate: Gate) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in gate.plane.bearer().items()]
        scope = {"type": "http", "method": "POST", "path": "/v2/models/a.scale/predict", "headers": headers}
        self.told: asyncio.Queue[dict] = asyncio.Queue()
        self.sent: list[dict] = []
        self.answered = asyncio.create_task(running.server(scope, self.told.get, self._send))

    async def _send(self, message: dict) -> None:
        self.sent.append(message)

    def tell(self, body: bytes, *, more: bool = False) -> None:
        self.told.put_nowait({"type": "http.request", "body": body, "more_body": more})


async def hang_up_while_waiting(running: Running, gate: Gate) -> list[dict]:
    """Ask and leave; return what was answered."""
    client = Client(running, gate)
    client.tell(orjson.dumps({"instances": [[1.0]]}))
    await soon(lambda: waiting(running) == 1)
    client.told.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(client.answered, 5)
    return client.sent


@pytest.mark.parametrize("piece", [None, b'{"instances":'])
def test_a_body_that_does_not_come_is_a_504_and_ends_its_connection(gate, tmp_path, piece):
    scale(gate, tmp_path, timeout_s=0.2)

    async def run():
        async with serving(gate.plane) as running:
            client = Client(running, gate)
            if piece:
                client.tell(piece, more=True)
            await asyncio.wait_for(client.answered, 5)
            return client.sent, running.parts.flusher._metrics.take()

    (head, body), counted = asyncio.run(run())
    assert (head["status"], orjson.loads(body["body"])["type"]) == (504, "EXTERNAL_SERVICE_ERROR")
    assert (b"connection", b"close") in head["headers"]
    assert counted[counted.index("1:requests") + 1] == 1


@pytest.mark.alone
def test_the_time_limit_counts_from_the_head_to_the_answer(gate, tmp_path):
    scale(gate, tmp_path, timeout_s=1.5)

    async def run():
        async with serving(gate.plane) as running:
            gate.close(running)
            begun = time.perf_counter()
            client = Client(running, gate)
            client.tell(b'{"instances":', more=True)
            await asyncio.sleep(1)
            client.tell(b"[[1.0]]}")
            await soon(lambda: waiting(running) == 1)
            await asyncio.wait_for(client.answered, 5)
            seconds = time.perf_counter() - begun
            await gate.open()
            return client.sent[0]["status"], seconds

    status, seconds = asyncio.run(run())
    assert status == 504
    assert 1.5 <= seconds < 2.5


def test_a_client_that_leaves_while_it_waits_frees_its_place(gate, tmp_path):
    scale(gate, tmp_path, max_queued=1)

    async def run():
        async with serving(gate.plane) as running:
            gate.close(running)
            assert await hang_up_while_waiting(running, gate) == []
            assert waiting(running) == 0
            leaver = asked(running, gate)
            await soon(lambda: waiting(running) == 1)
            # Serve's own proxy cancels the request of a client that has gone.
            leaver.cancel()
            await soon(lambda: waiting(running) == 0)
            stayer = asked(running, gate)
            await soon(lambda: waiting(running) == 1)
            await gate.open()
            return await stayer, running.parts.flusher._metrics.take()

    stayer, counted = asyncio.run(run())
    assert stayer.status_code == 200
    assert counted[counted.index("1:requests") + 1] == 1


SIZE = 512
WIDE = Signature.model_validate(
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, SIZE]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, SIZE]}],
    }
)


def binary(rows: int) -> tuple[bytes, dict[str, str]]:
    """Return a request that is read in no time, however many rows it has."""
    piece = np.zeros((rows, SIZE), np.float32).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, SIZE], "parameters": {"binary_data_size": len(piece)}}
    wanted = [{"name": "y", "parameters": {"binary_data": True}}]
    head = orjson.dumps({"inputs": [tensor], "outputs": wanted})
    return head + piece, {"inference-header-content-length": str(len(head))}


async def longest_silence_s(until: asyncio.Future) -> float:
    """Return the longest that the event loop left a millisecond's sleep waiting."""
    longest, begun = 0.0, time.perf_counter()
    while not until.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, begun = max(longest, now - begun), now
    return longest


@pytest.mark.alone
def test_the_loop_is_silent_for_no_model_however_slow(plane, tmp_path):
    plane.grants()
    path = onnx_models.matmul_tower(tmp_path / "slow.onnx", size=SIZE, layers=24)
    plane.endpoint("a.slow", plane.revision(path, WIDE), batching=Batching(max_size=4096))
    content, headers = binary(300)

    async def run():
        async with serving(plane) as running:
            url, sent = "/v2/models/a.slow/infer", plane.bearer() | headers
            await running.client.post(url, content=content, headers=sent)
            shares = []
            for _ in range(3):
                begun = time.perf_counter()
                slow = asyncio.gather(*(running.client.post(url, content=content, headers=sent) for _ in range(4)))
                silence_s = await longest_silence_s(slow)
                shares.append(silence_s / (seconds := time.perf_counter() - begun))
                assert {answer.status_code for answer in await slow} == {200}
                assert seconds > 0.02
            return shares

    # A busy machine may hold up the loop as well, but hardly each time.
    assert min(asyncio.run(run())) < 1 / 3
