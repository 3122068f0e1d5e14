"""Counting: in memory, across replicas, through failures."""

import asyncio
import json
from types import SimpleNamespace

import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from servers_in_process import serving

from raymill.kernel.cache import CacheUnavailable
from raymill.serving.models.lines import Room
from raymill.serving.models.pool import ModelPool
from raymill.serving.published.channel import live_servers
from raymill.serving.published.directory import Directory
from raymill.serving.records.gauges import GAUGES, RevisionGauges, gauges_of, read_gauges, read_revision_gauges
from raymill.serving.records.metrics import (
    BOUNDS,
    Metrics,
    MetricsFlusher,
    forget_metrics,
    quantile,
    read_counts,
    read_metrics,
)
from timing import soon

GOOD = {"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


def test_what_was_counted_is_taken_once():
    metrics = Metrics()
    metrics.record(("dep_1", 1), 0.001, None)
    metrics.record(("dep_1", 1), 0.002, "VALIDATION_ERROR")
    taken = metrics.take()
    increments = {field: value for _, field, value in zip(*[iter(taken)] * 3, strict=True)}
    assert increments.pop("1:requests") == 2
    assert increments.pop("1:errors") == increments.pop("1:errors:VALIDATION_ERROR") == 1
    assert increments.pop("1:latency_us") == 3000
    assert sum(increments.values()) == 2
    assert metrics.take() == []


@given(st.lists(st.floats(60e-6, 60.0), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_are_right_within_a_bucket(seconds, share):
    metrics = Metrics()
    for value in seconds:
        metrics.record(("dep", 1), value, None)
    counts = metrics._counts["dep", 1]
    exact = sorted(seconds)[max(0, -int(-len(seconds) * share // 1) - 1)]
    estimate = quantile(counts.buckets, share) / 1000
    assert exact / 1.26 <= estimate <= exact * 1.26


def test_quantiles_of_nothing_and_of_the_endless():
    assert quantile([0] * (len(BOUNDS) + 1), 0.5) is None
    assert quantile([0] * len(BOUNDS) + [3], 0.5) == pytest.approx(BOUNDS[-1] * 1000)


@pytest.mark.integration
def test_two_replicas_count_exactly(live_digits):
    async def run():
        async with serving(live_digits) as one, serving(live_digits) as two:
            await soon(lambda: len(live_servers(live_digits.cache)) == 2)
            for number in range(1000):
                bad = number % 27 == 26
                content = b"{" if bad else json.dumps(GOOD).encode()
                client = (one, two)[number % 2].client
                answer = await client.post("/v2/models/digits.mlp/infer", content=content, headers=live_digits.bearer())
                assert answer.status_code == (400 if bad else 200)
            await soon(lambda: read_metrics(live_digits.cache, "dep_1").requests == 1000, within_s=2)
            return read_metrics(live_digits.cache, "dep_1")

    metrics = asyncio.run(run())
    assert (metrics.requests, metrics.errors) == (1000, 37)
    assert metrics.errors_by_type == {"VALIDATION_ERROR": 37}
    assert metrics.revisions.keys() == {"1"}
    latency = metrics.latency_ms
    assert 0 < latency.p50 <= latency.p95 <= latency.p99
    assert latency.mean > 0


@pytest.mark.integration
def test_what_was_counted_last_is_written_when_the_server_stops(live_digits):
    async def run():
        async with serving(live_digits) as running:
            await running.client.post("/v2/models/digits.mlp/infer", json=GOOD, headers=live_digits.bearer())

    asyncio.run(run())
    assert read_metrics(live_digits.cache, "dep_1").requests == 1


@pytest.mark.integration
def test_a_batch_whose_answer_was_lost_is_counted_once(live_plane):
    """The connection breaks after Valkey took the batch: the flusher cannot know, and sends it again."""

    class LosingAnswers(redis.asyncio.Redis):
        lose = 2

        async def eval(self, *args):
            answer = await super().eval(*args)
            if self.lose:
                self.lose -= 1
                raise redis.ConnectionError("lost")
            return answer

    async def run():
        cache = LosingAnswers.from_url(live_plane.redis_url, retry=Retry(NoBackoff(), 0))
        metrics = Metrics()
        flusher = MetricsFlusher(metrics, cache, "srv-1")
        for _ in range(4):
            metrics.record(("dep_1", 1), 0.001, None)
            try:
                await flusher.flush()
            except redis.ConnectionError:
                continue
        await cache.aclose()

    asyncio.run(run())
    assert read_metrics(live_plane.cache, "dep_1").requests == 4


@pytest.mark.integration
def test_counts_wait_until_valkey_is_back(live_plane, plane):
    async def run():
        metrics = Metrics()
        away = redis.asyncio.Redis.from_url(plane.redis_url, retry=Retry(NoBackoff(), 0))
        flusher = MetricsFlusher(metrics, away, "srv-1")
        for _ in range(3):
            metrics.record(("dep_1", 1), 0.001, None)
            with pytest.raises(redis.ConnectionError):
                await flusher.flush()
        flusher._cache = redis.asyncio.Redis.from_url(live_plane.redis_url)
        await flusher.flush()
        await flusher._cache.aclose()

    asyncio.run(run())
    assert read_metrics(live_plane.cache, "dep_1").requests == 3


@pytest.mark.integration
def test_metrics_of_nothing_are_zero_and_can_be_forgotten(live_plane):
    live_plane.cache.hset("metrics:dep_1", "1:requests", 3)
    forget_metrics(live_plane.cache, "dep_1")
    metrics = read_metrics(live_plane.cache, "dep_1")
    assert (metrics.requests, metrics.errors, metrics.latency_ms.p50, metrics.revisions) == (0, 0, None, {})


def test_a_reader_without_valkey_is_told(plane):
    for call in (read_metrics, forget_metrics):
        with pytest.raises(CacheUnavailable):
            call(plane.cache, "dep_1")


def test_who_waits_to_be_read_and_who_waits_for_an_app_are_added_up():
    meter, directory, room = ("dep_1", 1), Directory(), Room()
    directory.endpoints["a.b"] = SimpleNamespace(room=room)
    pool = ModelPool(None, None, capacity_bytes=1, idle_s=1)
    with room.place(2, meter):
        told = gauges_of(directory, pool, SimpleNamespace(waiting=lambda: {meter: 5}))
    assert (told.server["waiting"], told.revisions) == (6, {meter: RevisionGauges(6, 0)})


@pytest.mark.integration
def test_a_server_tells_its_gauges(live_digits):
    async def run():
        async with serving(live_digits) as running:
            await running.client.post("/v2/models/digits.mlp/infer", json=GOOD, headers=live_digits.bearer())
            await soon(lambda: any(told["models"] for told in read_gauges(live_digits.cache).values()))
            [counted] = read_counts(live_digits.cache, ["dep_1"])
            return read_gauges(live_digits.cache), read_revision_gauges(live_digits.cache), counted

    servers, revisions, counted = asyncio.run(run())
    [told] = servers.values()
    assert revisions == {("dep_1", 1): RevisionGauges(0, int(told["model_bytes"]))}
    assert (counted["1"].loads, counted["1"].calls, counted["1"].called, counted["1"].requests) == (1, 1, 1, 1)
    assert told.keys() == GAUGES.keys()
    assert (told["loads_total"], told["evictions_total"], told["waiting"]) == (1, 0, 0)
    assert told["resident_bytes"] > told["model_bytes"] > 0
