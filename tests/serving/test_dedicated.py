"""The way to apps of their own: limits, refusals, what is taken of an answer, and who gets artifacts."""

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from plane import KEY, SCALE, Plane
from ray.serve._private.common import DeploymentHandleSource, DeploymentID
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.router import RouterMetricsManager
from ray.serve.config import AutoscalingConfig
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.util.metrics import Counter, Gauge
from servers_in_process import serving

from raymill.kernel.settings import ServingSettings
from raymill.serving.errors import AppUnavailable, ModelFailed, ModelUnavailable, QueueFull, RequestTimedOut
from raymill.serving.formats.frames import FrameDamaged, pack, unpack
from raymill.serving.models.artifacts import ArtifactCache
from raymill.serving.models.dedicated import ArtifactDesk, DedicatedApps, arrays_of
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Target, infer
from timing import soon

TARGET = Target("shop.price", "1", Interface(SCALE))
BODY = b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2.0]}]}'
REPLICA, TAGS = DeploymentHandleSource.REPLICA, ("deployment", "application", "handle", "actor_id")
FRAME = b"\x00" + pack({"y": np.array([[6.0]], np.float32)})


class Response:
    """Stands for Ray's: a future until a replica takes the request, then one until it answers."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._replica_result_future: asyncio.Future[None] = loop.create_future()
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self.is_cancelled = False

    def take(self) -> None:
        self._replica_result_future.set_result(None)

    def give(self, answer: bytes | Exception) -> None:
        self.take()
        if isinstance(answer, bytes):
            self.answer.set_result(answer)
        else:
            self.answer.set_exception(answer)

    def cancel(self) -> None:
        self.is_cancelled = True
        self._replica_result_future.cancel()

    def __await__(self) -> Any:
        yield from self._replica_result_future.__await__()
        return (yield from self.answer.__await__())


class Handle:
    """Stands for Ray's: keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Response] = []
        self.feeds: list[Any] = []
        self.is_shut = False

    def remote(self, outputs: list[str], feeds: Any) -> Response:
        self.asked.append(Response())
        self.feeds.append((outputs, feeds))
        return self.asked[-1]

    async def shutdown_async(self) -> None:
        self.is_shut = True


class Ray:
    """The handles by app."""

    def __init__(self) -> None:
        self.handles: dict[str, Handle] = {}

    def handle_of(self, app: str) -> Handle:
        return self.handles.setdefault(app, Handle())


def asking(apps: DedicatedApps, *, timeout_s: float = 5.0, app: str = "ep-1") -> asyncio.Task[Any]:
    question = infer(TARGET, BODY, {})

    async def ask() -> Any:
        answer = await apps.run(app, ("dep_1", 1), question, timeout_s=timeout_s, max_queued=2)
        return arrays_of(app, answer, TARGET, question)

    return asyncio.get_running_loop().create_task(ask())


async def asked(ray: Ray, count: int = 1, app: str = "ep-1") -> list[Response]:
    await soon(lambda: app in ray.handles and len(ray.handles[app].asked) >= count)
    return ray.handles[app].asked


def answered(answer: bytes | Exception) -> Any:
    async def scene() -> Any:
        ray = Ray()
        task = asking(DedicatedApps(handle_of=ray.handle_of))
        (await asked(ray))[0].give(answer)
        return await task

    return asyncio.run(scene())


def test_the_app_gets_arrays_and_its_arrays_come_back():
    async def scene():
        ray = Ray()
        task = asking(DedicatedApps(handle_of=ray.handle_of))
        (await asked(ray))[0].give(FRAME)
        outputs, feeds = ray.handles["ep-1"].feeds[0]
        return outputs, feeds["x"].tolist(), (await task)[0].tolist()

    assert asyncio.run(scene()) == (["y"], [[2.0]], [[6.0]])


def test_a_request_to_an_app_without_replicas_is_in_the_report_that_wakes_it():
    async def scene():
        ray, loop = Ray(), asyncio.get_running_loop()
        names, gauge = DeploymentID("model", "ep-1"), partial(Gauge, tag_keys=TAGS)
        counter = Counter("asked", tag_keys=("route", *TAGS))
        records = RouterMetricsManager(
            names, "handle", "actor", REPLICA, None, counter, gauge("queued"), gauge("running"), loop
        )
        records._deployment_config = DeploymentConfig(autoscaling_config=AutoscalingConfig(min_replicas=0))
        records._add_autoscaling_metrics_point()
        records.inc_num_queued_requests()
        router = SimpleNamespace(request_router=SimpleNamespace(curr_replicas={}), _metrics_manager=records)
        ray.handle_of("ep-1")._router = SimpleNamespace(_asyncio_router=router)
        before = [point.value for point in records._get_metrics_report().queued_requests]
        asking(DedicatedApps(handle_of=ray.handle_of))
        await asked(ray)
        return before, [point.value for point in records._get_metrics_report().queued_requests]

    # The first is why it is needed: Ray reports what it recorded before the request came.
    assert asyncio.run(scene()) == ([0], [1])


def test_the_models_refusal_is_the_clients_fault():
    with pytest.raises(ModelFailed, match="too cold"):
        answered(b"\x01too cold")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x07",
        b"\x00\xff\xff\xff\xffx",
        b"\x00" + pack({"z": np.ones(1, np.float32)}),
        b"\x00" + pack({"y": np.ones(1, np.float64)}),
        b"\x00" + pack({"y": np.array(["x"], object)}),
    ],
)
def test_an_answer_that_cannot_be_used_is_no_answer(answer):
    with pytest.raises(AppUnavailable):
        answered(answer)


def test_what_goes_wrong_on_the_way_is_refused_in_our_words():
    lost = {"app": "ep-1", "deployment": "model"}
    with pytest.raises(QueueFull):
        answered(BackPressureError(num_queued_requests=1, max_queued_requests=1))
    for error in (DeploymentUnavailableError(lost), RuntimeError("actor died")):
        with pytest.raises(AppUnavailable) as refused:
            answered(error)
        assert refused.value.retry_after_s


def test_a_time_limit_tells_a_cold_app_from_a_slow_one():
    async def scene(is_taken):
        ray = Ray()
        task = asking(DedicatedApps(handle_of=ray.handle_of), timeout_s=0.05)
        response = (await asked(ray))[0]
        if is_taken:
            response.take()
        with pytest.raises((AppUnavailable, RequestTimedOut)) as refused:
            await task
        return refused.value, response.is_cancelled

    cold, slow = asyncio.run(scene(False)), asyncio.run(scene(True))
    assert (type(cold[0]), cold[0].status, cold[0].retry_after_s, cold[1]) == (AppUnavailable, 503, 5, True)
    assert (type(slow[0]), slow[0].status, slow[1]) == (RequestTimedOut, 504, True)


def test_only_so_many_wait_and_whoever_leaves_makes_room():
    async def scene():
        ray = Ray()
        apps = DedicatedApps(handle_of=ray.handle_of)
        tasks = [asking(apps), asking(apps)]
        responses = await asked(ray, 2)
        with pytest.raises(QueueFull):
            await asking(apps)
        assert apps.waiting() == {("dep_1", 1): 2}
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert responses[0].is_cancelled
        tasks.append(asking(apps))
        for response in (await asked(ray, 3))[1:]:
            response.give(FRAME)
        answers = [len(await task) for task in tasks[1:]]
        assert apps.waiting() == {}
        return answers

    assert asyncio.run(scene()) == [1, 1]


def test_the_least_recently_used_app_is_let_go_and_never_one_in_use():
    async def scene():
        ray = Ray()
        apps = DedicatedApps(capacity=2, handle_of=ray.handle_of)
        busy = asking(apps, app="busy")
        await asked(ray, app="busy")
        for app in ("one", "two"):
            task = asking(apps, app=app)
            (await asked(ray, app=app))[0].give(FRAME)
            await task
        await asyncio.sleep(0)
        shut = {app: handle.is_shut for app, handle in ray.handles.items()}
        ray.handles["busy"].asked[0].give(FRAME)
        await busy
        await apps.close()
        return shut, all(handle.is_shut for handle in ray.handles.values())

    assert asyncio.run(scene()) == ({"busy": False, "one": True, "two": False}, True)


@given(arrays.arrays(st.sampled_from([np.float32, np.int64, np.bool_, np.uint8]), arrays.array_shapes(min_side=0)))
def test_arrays_survive_the_way(array):
    back = unpack(memoryview(pack({"a": array, "b": array})), {"a": array.dtype, "b": array.dtype}, ["b"])[0]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.lists(st.text()))
def test_texts_survive_the_way(texts):
    array = np.array([*texts, None], object)[:-1]
    assert unpack(memoryview(pack({"a": array})), {"a": np.dtype(object)}, ["a"])[0].tolist() == texts


@given(st.binary(max_size=80))
def test_no_bytes_do_more_than_be_refused(frame):
    with pytest.raises(FrameDamaged):
        unpack(memoryview(frame), {"a": np.dtype(np.float32)}, ["a"])


def test_no_pickle_is_opened():
    evil = b'[["a", "|O8", [1], 8]]'
    with pytest.raises(FrameDamaged):
        unpack(memoryview(len(evil).to_bytes(4, "little") + evil + b"\x00" * 8), {"a": np.dtype(object)}, ["a"])


def test_an_endpoint_with_an_app_is_answered_by_it(plane, tmp_path):
    async def scene():
        ray = Ray()
        async with serving(plane) as running:
            running.parts.apps.handle_of = ray.handle_of
            request = running.client.post("/v2/models/shop.price/infer", content=BODY, headers={"X-API-Key": KEY})
            task = asyncio.create_task(request)
            (await asked(ray))[0].give(FRAME)
            answer = await task
        assert ray.handles["ep-1"].is_shut
        return answer, running.parts.pool.loads

    plane.grants()
    revision = plane.revision(onnx_models.scale(tmp_path / "m", 3.0), SCALE, format="torchscript", app="ep-1")
    plane.endpoint("shop.price", revision)
    answer, loads = asyncio.run(scene())
    assert (answer.status_code, answer.json()["outputs"][0]["data"], loads) == (200, [6.0], 0)
    assert answer.headers["x-raymill-revision"] == "1"


@pytest.mark.parametrize(("rows", "status", "threads"), [(1, 200, 0), (100_000, 200, 1), (300_000, 422, 0)])
def test_a_long_answer_is_worded_in_a_thread_and_one_that_is_too_long_is_refused(tmp_path, rows, status, threads):
    plane = Plane(tmp_path / "home", serving=ServingSettings(max_body_bytes=1_000_000))
    frame = b"\x00" + pack({"y": np.ones((rows, 1), np.float32)})

    async def scene():
        ray = Ray()
        async with serving(plane) as running:
            running.parts.apps.handle_of = ray.handle_of
            request = running.client.post("/v2/models/shop.price/infer", content=BODY, headers={"X-API-Key": KEY})
            task = asyncio.create_task(request)
            (await asked(ray))[0].give(frame)
            return await task, len(running.parts.threads[1]._threads)

    plane.grants()
    revision = plane.revision(onnx_models.scale(tmp_path / "m", 3.0), SCALE, format="torchscript", app="ep-1")
    plane.endpoint("shop.price", revision)
    answer, begun = asyncio.run(scene())
    assert (answer.status_code, begun) == (status, threads)
    if status == 200:
        assert answer.json()["outputs"][0]["data"] == [1.0] * rows
    else:
        assert "1000000" in answer.json()["message"]


def test_an_app_gets_its_artifact_and_no_other(plane, tmp_path):
    async def scene():
        async with serving(plane) as running:
            desk = ArtifactDesk(running.parts.directory, cache, running.parts.threads[0], wait_s=0)
            whole = b"".join([piece async for piece in desk.give("ep-1", own.sha256)])
            for app, digest in (("ep-2", own.sha256), ("ep-1", pooled.sha256), ("ep-2", pooled.sha256)):
                with pytest.raises(ModelUnavailable):
                    await anext(desk.give(app, digest))
            return whole

    cache = ArtifactCache(plane.store, tmp_path / "cache", max_bytes=2**30)
    program = tmp_path / "program"
    program.write_bytes(b"x" * (3 << 20))
    own = plane.revision(program, SCALE, format="torchscript", app="ep-1")
    pooled = plane.revision(onnx_models.scale(tmp_path / "m", 3.0), SCALE, number=2)
    plane.endpoint("shop.price", own, pooled)
    assert asyncio.run(scene()) == program.read_bytes()
