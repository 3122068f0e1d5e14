"""Warming up: revisions are loaded and tried before they get weight, beside everything else, and reported."""

import asyncio

import numpy as np
import onnx_models
import pytest
from plane import MLP, SCALE, Plane
from servers_in_process import serving
from test_server import KINDS

from raymill.serving.errors import ModelBroken, ModelUnavailable
from raymill.serving.formats import DTYPES
from raymill.serving.models.warmup import Warmer
from raymill.serving.protocol.first_request import first_request
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Target
from raymill.serving.published.channel import Channel, forget_warm, live_servers, read_warm
from raymill.serving.published.directory import Directory
from raymill.serving.published.table import EndpointDocument, Revision, Signature, TensorSpec
from timing import soon


def revision(signature: Signature, **more) -> Revision:
    return Revision(number=1, format="onnx", uri="x", sha256="0" * 64, size_bytes=1, signature=signature, **more)


@pytest.mark.parametrize("datatype", [*DTYPES])
def test_without_an_example_the_request_is_zeros_and_empty_texts_in_one_row(datatype):
    spec = TensorSpec(name="x", datatype=datatype, shape=(-1, 3))
    signature = Signature(inputs=(spec,), outputs=(spec,))
    codec, body, headers = first_request(revision(signature))
    array = codec(Target("p.m", "1", Interface(signature)), body, headers).feeds["x"]
    assert (array.dtype, array.shape) == (DTYPES[datatype], (1, 3))
    assert not array.any()


def test_an_example_is_put_as_it_is():
    codec, body, headers = first_request(revision(MLP, example=([1, 2, 3, 4], {"a": 0, "b": 0, "c": 0, "d": 0})[:1]))
    feeds = codec(Target("p.m", "1", Interface(MLP)), body, headers).feeds
    np.testing.assert_array_equal(feeds["features"], [[1, 2, 3, 4]])


class Reports(Channel):
    """A channel whose Valkey may be away, and that keeps what it is told."""

    def __init__(self):
        self.is_away = False
        self.told: list[tuple[str, int, str]] = []
        self.taken_back: list[tuple[str, int]] = []

    async def report_warm(self, endpoint_id, number, reason):
        if self.is_away:
            raise OSError("away")
        self.told.append((endpoint_id, number, reason))

    async def retract_warm(self, endpoint_id, number):
        if self.is_away:
            raise OSError("away")
        self.taken_back.append((endpoint_id, number))


def endpoint(*, warming: tuple[int, ...], version: int = 1) -> EndpointDocument:
    return EndpointDocument(
        key="p.m",
        version=version,
        endpoint_id="dep_1",
        project_id="prj_1",
        revisions=(revision(SCALE), revision(SCALE).model_copy(update={"number": 2})),
        traffic={1: 100},
        warming=warming,
    )


def warmed(results: list[Exception | None], scene, *, period_s: float = 0.005):
    """Run a warmer whose attempts end like this, one after the other."""
    reports, directory = Reports(), Directory()
    attempts: list[int] = []

    async def warm(endpoint, route):
        attempts.append(route.revision.number)
        if error := results[min(len(attempts), len(results)) - 1]:
            raise error

    async def run():
        warmer = Warmer(directory, reports, warm, period_s=period_s, timeout_s=1.0)
        task = asyncio.create_task(warmer.run())
        try:
            await scene(directory, reports)
        finally:
            warmer.close()
            await task

    asyncio.run(run())
    return attempts, reports.told


def test_a_revision_is_warmed_once_and_reported_for_as_long_as_it_is_named():
    async def scene(directory, reports):
        directory.apply(endpoint(warming=(2,)))
        await soon(lambda: len(reports.told) >= 3)
        directory.apply(endpoint(warming=(), version=2))
        await soon(lambda: not directory.warming)
        seen = len(reports.told)
        await asyncio.sleep(0.03)
        assert len(reports.told) <= seen + 1

    attempts, told = warmed([None], scene)
    assert attempts == [2]
    assert set(told) == {("dep_1", 2, "")}


def test_a_report_is_taken_back_when_its_revision_is_not_named_any_more():
    async def scene(directory, reports):
        directory.apply(endpoint(warming=(2,)))
        await soon(lambda: reports.told)
        reports.is_away = True
        directory.apply(endpoint(warming=(), version=2))
        await soon(lambda: not directory.warming)
        await asyncio.sleep(0.01)
        assert not reports.taken_back
        reports.is_away = False
        await soon(lambda: reports.taken_back)
        directory.apply(endpoint(warming=(2,), version=3))
        seen = len(reports.told)
        await soon(lambda: len(reports.told) > seen)
        assert reports.taken_back == [("dep_1", 2)]

    attempts, _ = warmed([None], scene)
    assert attempts == [2, 2]


def test_a_trial_may_end_while_another_is_reported():
    async def scene(directory, reports):
        tell = reports.report_warm

        async def tell_slowly(endpoint_id, number, reason):
            await asyncio.sleep(0.02)
            await tell(endpoint_id, number, reason)

        reports.report_warm = tell_slowly
        directory.apply(endpoint(warming=(1, 2)))
        await soon(lambda: {number for _, number, _ in reports.told} == {1, 2})

    attempts, _ = warmed([None], scene)
    assert sorted(attempts) == [1, 2]


def test_a_signature_larger_than_any_request_is_refused_before_it_takes_memory():
    spec = TensorSpec(name="x", datatype="FP64", shape=(1, 30_000, 30_000))
    with pytest.raises(ModelBroken, match="no request may"):
        first_request(revision(Signature(inputs=(spec,), outputs=(spec,))))


def test_a_report_waits_for_valkey():
    async def scene(directory, reports):
        reports.is_away = True
        directory.apply(endpoint(warming=(2,)))
        await asyncio.sleep(0.02)
        reports.is_away = False
        await soon(lambda: reports.told)

    assert warmed([None], scene)[1][0] == ("dep_1", 2, "")


def test_a_broken_revision_is_reported_with_the_reason_and_tried_again_when_it_is_named_again():
    async def scene(directory, reports):
        directory.apply(endpoint(warming=(2,)))
        await soon(lambda: reports.told)
        directory.apply(endpoint(warming=(), version=2))
        await soon(lambda: not directory.warming_changed.is_set())
        directory.apply(endpoint(warming=(2,), version=3))
        await soon(lambda: reports.told[-1][2] == "")

    attempts, told = warmed([ModelBroken("it is broken"), None], scene)
    assert (attempts, told[0]) == ([2, 2], ("dep_1", 2, "it is broken"))


def test_an_outage_says_nothing_about_the_revision_and_it_is_tried_until_it_is_over():
    async def scene(directory, reports):
        directory.apply(endpoint(warming=(2,)))
        await soon(lambda: reports.told)

    away = ModelUnavailable("the store is away", retry_after_s=2)
    attempts, told = warmed([away, away, None], scene)
    assert attempts == [2, 2, 2]
    assert {reason for _, _, reason in told} == {""}


def two_revisions(plane: Plane, tmp_path, **more) -> None:
    plane.grants()
    first = plane.revision(onnx_models.scale(tmp_path / "1.onnx", 1.0), SCALE, 1)
    plane.endpoint("a.scale", first, more.pop("second"), traffic={1: 100}, warming=(2,), **more)


@pytest.mark.integration
def test_every_server_holds_a_warm_revision_before_anybody_asks_for_it(live_plane, tmp_path):
    plane = live_plane
    second = plane.revision(onnx_models.scale(tmp_path / "2.onnx", 2.0), SCALE, 2)

    async def run():
        async with serving(plane) as one, serving(plane) as two:
            two_revisions(plane, tmp_path, second=second)
            await soon(lambda: read_warm(plane.cache, "dep_1", 2).keys() == live_servers(plane.cache) != set())
            assert set(read_warm(plane.cache, "dep_1", 2).values()) == {""}
            loaded = [each.parts.pool.find(second) for each in (one, two)]
            assert all(model and model.pace.is_quick(80) for model in loaded)
            plane.cache.flushall()
            await soon(lambda: len(read_warm(plane.cache, "dep_1", 2)) == 2)
            forget_warm(plane.cache, "dep_1", 2)
            await soon(lambda: read_warm(plane.cache, "dep_1", 2))
            plane.endpoint("a.scale", plane.revision(tmp_path / "1.onnx", SCALE, 1), second, traffic={1: 100})
            await soon(lambda: not read_warm(plane.cache, "dep_1", 2))
            return await one.infer("a.scale", [[3.0]], plane.bearer(), input="x")

    answer = asyncio.run(run())
    assert answer.json()["outputs"][0]["data"] == [3.0]


@pytest.mark.integration
@pytest.mark.parametrize("fault", ["file", "refuses zeros", "example"])
def test_a_revision_that_cannot_answer_is_reported_with_the_reason(live_plane, tmp_path, fault):
    plane = live_plane
    path = onnx_models.scale(tmp_path / "2.onnx", 2.0)
    second = plane.revision(path, SCALE, 2, example=(["a"],) if fault == "example" else None)
    if fault == "file":
        path.write_bytes(b"no model")
        second = plane.revision(path, SCALE, 2)
    elif fault == "refuses zeros":
        second = plane.revision(onnx_models.pairs(path), SCALE, 2)

    async def run():
        async with serving(plane):
            two_revisions(plane, tmp_path, second=second)
            await soon(lambda: read_warm(plane.cache, "dep_1", 2))
            return read_warm(plane.cache, "dep_1", 2)

    (reason,) = asyncio.run(run()).values()
    word = {"file": "cannot load", "refuses zeros": "from the signature alone", "example": "numbers"}[fault]
    assert word in reason


def test_a_model_of_several_inputs_is_warmed_from_its_signature(plane, tmp_path):
    plane.grants()
    second = plane.revision(onnx_models.identities(tmp_path / "kinds.onnx"), KINDS)

    async def run():
        plane.endpoint("a.kinds", second, warming=(1,))
        async with serving(plane) as running:
            await soon(lambda: running.parts.warmer._outcomes)
            return running.parts.warmer._outcomes

    assert asyncio.run(run()) == {("dep_1", 1): ""}
