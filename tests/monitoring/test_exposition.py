"""Live metrics in Prometheus' text format, read as Prometheus does."""

import asyncio

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from factories import Tenant
from raymill.kernel.cache import connect_async
from raymill.kernel.resources import Resources
from raymill.serving.published.channel import Channel
from raymill.serving.records.gauges import GAUGES, GaugeTeller, RevisionGauges, Told
from raymill.serving.records.metrics import Metrics, MetricsFlusher

pytestmark = pytest.mark.integration

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Return every sample by its name and the values of its labels, in the order of their names."""
    families = text_string_to_metric_families(text)
    return {
        (each.name, *dict(sorted(each.labels.items())).values()): each.value
        for family in families
        for each in family.samples
    }


def count(resources: Resources, deployment_id: str) -> None:
    """Count on two servers: 30 answers of revision 1, five of them slow, and two errors of revision 2."""

    async def flush() -> None:
        cache = connect_async(resources.settings.redis)
        for server in range(2):
            metrics = Metrics()
            for number in range(15):
                metrics.record((deployment_id, 1), 2.0 if server and number < 5 else 0.001, None)
            metrics.record((deployment_id, 2), 0.5, ("VALIDATION_ERROR", "RATE_LIMIT_EXCEEDED")[server])
            metrics.loaded((deployment_id, 1))
            for calls in (1, 0, 0):
                metrics.ran((deployment_id, 1), calls)
            if server:
                metrics.evicted((deployment_id, 1))
            await MetricsFlusher(metrics, cache, f"srv-{server}").flush()
        await cache.aclose()

    asyncio.run(flush())


def tell(resources: Resources, *servers: str, told: Told) -> None:
    """Tell gauges of servers, all of which live but those that are called dead."""

    async def tell_all() -> None:
        cache = connect_async(resources.settings.redis)
        for server in servers:
            await GaugeTeller(cache, server, lambda: told).tell()
            if "dead" not in server:
                await Channel(cache, server).pulse()
        await cache.aclose()

    asyncio.run(tell_all())


def test_a_project_reads_its_endpoints_exactly(alice: Tenant, deployment_id: str, resources: Resources) -> None:
    count(resources, deployment_id)
    answer = alice.get(f"/projects/{alice.project_id}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    name = alice.get(f"/deployments/{deployment_id}").json()["endpoint"].rpartition("/")[2]
    assert found["raymill_endpoint_requests_total", name, "1"] == 30
    assert found["raymill_endpoint_errors_total", name, "2", "VALIDATION_ERROR"] == 1
    assert found["raymill_endpoint_errors_total", name, "2", "RATE_LIMIT_EXCEEDED"] == 1
    assert found["raymill_endpoint_latency_seconds_count", name, "1"] == 30
    assert found["raymill_endpoint_latency_seconds_sum", name, "1"] == pytest.approx(10.025)
    bucket = "raymill_endpoint_latency_seconds_bucket"
    buckets = {key[2]: value for key, value in found.items() if (key[0], key[1], key[-1]) == (bucket, name, "1")}
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["+Inf"] == 30
    assert {value for bound, value in buckets.items() if 0.0015 < float(bound) < 2} == {25}
    assert found["raymill_endpoint_loads_total", name, "1"] == 2
    assert found["raymill_endpoint_evictions_total", name, "1"] == 1
    assert found["raymill_endpoint_batch_size_count", name, "1"] == 2
    assert found["raymill_endpoint_batch_size_sum", name, "1"] == 6


def test_what_waits_and_what_is_in_memory_is_added_up_over_the_live_servers(
    alice: Tenant, deployment_id: str, resources: Resources
) -> None:
    others = {("dep_another", 1): RevisionGauges(1, 1)}
    told = Told({}, {(deployment_id, 1): RevisionGauges(3, 1000), (deployment_id, 2): RevisionGauges(0, 50), **others})
    tell(resources, "srv-1", "srv-2", "srv-dead", told=told)
    text = alice.get(f"/projects/{alice.project_id}/metrics").text
    found = samples(text)
    name = alice.get(f"/deployments/{deployment_id}").json()["endpoint"].rpartition("/")[2]
    assert found["raymill_endpoint_waiting", name, "1"] == 6
    assert found["raymill_endpoint_model_bytes", name, "1"] == 2000
    assert found["raymill_endpoint_model_bytes", name, "2"] == 100
    assert len(found) == 4


def test_of_many_old_revisions_the_newest_are_told(alice: Tenant, deployment_id: str, resources: Resources) -> None:
    numbers = range(1, 31)
    fields = {f"{number}:requests": number for number in numbers}
    resources.cache.hset(f"metrics:{deployment_id}", mapping=fields)
    found = samples(alice.get(f"/projects/{alice.project_id}/metrics").text)
    told = {int(key[2]) for key in found if key[0] == "raymill_endpoint_requests_total"}
    assert told == {*numbers[-20:]}


def test_another_tenant_reads_no_metrics(alice: Tenant, bob: Tenant, deployment_id: str) -> None:
    assert bob.get(f"/projects/{alice.project_id}/metrics").status_code == 404


def test_the_platform_tells_of_its_live_servers_and_names_no_endpoint(
    client: TestClient, alice: Tenant, deployment_id: str, resources: Resources
) -> None:
    count(resources, deployment_id)
    told = {name: float(number) for number, name in enumerate(GAUGES)}
    tell(resources, "srv-alive", "srv-dead", told=Told(told, {(deployment_id, 1): RevisionGauges(1, 1)}))
    text = client.get("/metrics").text
    found = samples(text)
    for name, value in told.items():
        assert found[f"raymill_server_{name}", "srv-alive"] == value
    assert "srv-dead" not in text
    assert deployment_id not in text
    assert "raymill_api_requests" in text
