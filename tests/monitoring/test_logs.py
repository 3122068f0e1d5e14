"""The inference log and the feedback of a deployment over HTTP."""

import asyncio
import time

import pytest

from factories import Tenant
from raymill.kernel.resources import Resources
from raymill.serving.records.feedback import FeedbackLog, FeedbackRow
from raymill.serving.records.log import InferenceLog, Row

pytestmark = pytest.mark.integration


def write(resources: Resources, alice: Tenant, deployment_id: str, requests: int) -> None:
    """Log requests as a model server does, and say something of the last."""
    log = InferenceLog(resources.store, "srv-1", max_rows=1000)
    feedback = FeedbackLog(resources.store, "srv-1")
    begin = time.time() - 60
    for number in range(requests):
        id_, revision, status = b"req_%d" % number, 1 + number % 2, 422 if number == 0 else 200
        error = "VALIDATION_ERROR" if number == 0 else None
        log.append(
            Row(
                begin + number,
                id_,
                alice.project_id,
                deployment_id,
                "p.digits",
                revision,
                "usr_1",
                0.0125,
                status,
                error,
                b'{"instances": [1]}',
                b"",
            )
        )
    said = FeedbackRow(
        begin, alice.project_id, deployment_id, "p.digits", "usr_1", f"req_{requests - 1}", b'"red"', None
    )
    feedback.append(said)
    asyncio.run(log.flush())
    asyncio.run(feedback.flush())


def test_a_log_is_read_page_by_page(alice: Tenant, deployment_id: str, resources: Resources) -> None:
    write(resources, alice, deployment_id, 5)
    first = alice.get(f"/deployments/{deployment_id}/logs?limit=2").json()
    assert [item["request_id"] for item in first["items"]] == ["req_4", "req_3"]
    last = alice.get(f"/deployments/{deployment_id}/logs?limit=3&cursor={first['next_cursor']}").json()
    assert ([item["request_id"] for item in last["items"]], last["next_cursor"]) == (["req_2", "req_1", "req_0"], None)
    item = last["items"][-1]
    assert (item["status"], item["error"], item["latency_ms"]) == (422, "VALIDATION_ERROR", 12.5)
    assert (item["principal"], item["inputs"], item["outputs"]) == ("usr_1", '{"instances": [1]}', "")


def test_a_log_is_filtered(alice: Tenant, deployment_id: str, resources: Resources) -> None:
    write(resources, alice, deployment_id, 5)

    def found(query: str) -> list[str]:
        answer = alice.get(f"/deployments/{deployment_id}/logs?{query}")
        assert answer.status_code == 200, answer.text
        return [item["request_id"] for item in answer.json()["items"]]

    assert found("status=422") == ["req_0"]
    assert found("revision=2") == ["req_3", "req_1"]
    assert found("request_id=req_2") == ["req_2"]
    moment = alice.get(f"/deployments/{deployment_id}/logs?request_id=req_3").json()["items"][0]["time"]
    assert found(f"since={moment}") == ["req_4", "req_3"]
    assert found(f"until={moment}&limit=1") == ["req_3"]
    for refused in ("cursor=nonsense", "since=yesterday", "status=7", "limit=0"):
        assert alice.get(f"/deployments/{deployment_id}/logs?{refused}").status_code == 422


def test_feedback_is_read_beside_it(alice: Tenant, deployment_id: str, resources: Resources) -> None:
    write(resources, alice, deployment_id, 1)
    [said] = alice.get(f"/deployments/{deployment_id}/feedback?request_id=req_0").json()["items"]
    assert (said["request_id"], said["label"], said["value"], said["principal"]) == ("req_0", "red", None, "usr_1")
    assert alice.get(f"/deployments/{deployment_id}/feedback?request_id=other").json()["items"] == []


def test_before_the_first_request_the_log_is_empty(alice: Tenant, deployment_id: str) -> None:
    for journal in ("logs", "feedback"):
        assert alice.get(f"/deployments/{deployment_id}/{journal}").json() == {"items": [], "next_cursor": None}


def test_another_tenant_finds_no_log(alice: Tenant, bob: Tenant, deployment_id: str, resources: Resources) -> None:
    write(resources, alice, deployment_id, 1)
    for journal in ("logs", "feedback"):
        assert bob.get(f"/deployments/{deployment_id}/{journal}").status_code == 404
