"""Live metrics of a deployment over HTTP."""

import asyncio
from dataclasses import replace

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from factories import Tenant
from raymill.kernel.cache import connect, connect_async
from raymill.kernel.resources import Resources
from raymill.kernel.settings import RedisSettings
from raymill.serving.records.metrics import Metrics, MetricsFlusher

pytestmark = pytest.mark.integration


def count(resources: Resources, deployment_id: str) -> None:
    """Count, as a model server does, 20 answers of revision 1 and 5 of revision 2, one of them refused."""
    metrics = Metrics()
    for _ in range(20):
        metrics.record((deployment_id, 1), 0.010, None)
    for number in range(5):
        metrics.record((deployment_id, 2), 0.100, "VALIDATION_ERROR" if number == 0 else None)

    async def flush() -> None:
        cache = connect_async(resources.settings.redis)
        await MetricsFlusher(metrics, cache, "one").flush()
        await cache.aclose()

    asyncio.run(flush())


def test_metrics_add_up_over_revisions(alice: Tenant, deployment_id: str, resources: Resources) -> None:
    count(resources, deployment_id)
    metrics = alice.get(f"/deployments/{deployment_id}/metrics").json()
    assert (metrics["deployment_id"], metrics["requests"], metrics["errors"]) == (deployment_id, 25, 1)
    assert metrics["errors_by_type"] == {"VALIDATION_ERROR": 1}
    assert 8 < metrics["latency_ms"]["p50"] < 13
    assert 80 < metrics["latency_ms"]["p99"] < 130
    assert {number: each["requests"] for number, each in metrics["by_revision"].items()} == {"1": 20, "2": 5}


def test_before_the_first_request_metrics_are_zero(alice: Tenant, deployment_id: str) -> None:
    metrics = alice.get(f"/deployments/{deployment_id}/metrics").json()
    assert (metrics["requests"], metrics["errors"], metrics["latency_ms"]["p50"]) == (0, 0, None)


def test_strangers_and_the_deleted_find_no_metrics(alice: Tenant, bob: Tenant, deployment_id: str) -> None:
    assert bob.get(f"/deployments/{deployment_id}/metrics").status_code == 404
    alice.delete(f"/deployments/{deployment_id}")
    assert alice.get(f"/deployments/{deployment_id}/metrics").status_code == 404


def test_without_valkey_the_answer_is_503(
    app: FastAPI, alice: Tenant, deployment_id: str, resources: Resources
) -> None:
    nowhere = connect(RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_s=0.2))
    app.state.resources = replace(resources, cache=nowhere)
    answer = alice.get(f"/deployments/{deployment_id}/metrics")
    assert (answer.status_code, answer.json()["type"]) == (503, "EXTERNAL_SERVICE_ERROR")
