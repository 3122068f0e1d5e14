"""Live metrics in Prometheus' text format, read as Prometheus does."""

import asyncio

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from factories import Tenant
from raymill.kernel.cache import connect_async
from raymill.kernel.resources import Resources
from raymill.serving.channel import Channel
from raymill.serving.gauges import GAUGES, GaugeTeller
from raymill.serving.metrics import Metrics, MetricsFlusher

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
            await MetricsFlusher(metrics, cache, f"srv-{server}").flush()
        await cache.aclose()

    asyncio.run(flush())


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


def test_another_tenant_reads_no_metrics(alice: Tenant, bob: Tenant, deployment_id: str) -> None:
    assert bob.get(f"/projects/{alice.project_id}/metrics").status_code == 404


def test_the_platform_tells_of_its_live_servers_and_names_no_endpoint(
    client: TestClient, alice: Tenant, deployment_id: str, resources: Resources
) -> None:
    count(resources, deployment_id)
    told = {name: float(number) for number, name in enumerate(GAUGES)}

    async def tell() -> None:
        cache = connect_async(resources.settings.redis)
        await GaugeTeller(cache, "srv-alive", lambda: told).tell()
        await GaugeTeller(cache, "srv-dead", lambda: told).tell()
        await Channel(cache, "srv-alive").pulse()
        await cache.aclose()

    asyncio.run(tell())
    text = client.get("/metrics").text
    found = samples(text)
    for name, value in told.items():
        assert found[f"raymill_server_{name}", "srv-alive"] == value
    assert "srv-dead" not in text
    assert deployment_id not in text
    assert "raymill_api_requests" in text
