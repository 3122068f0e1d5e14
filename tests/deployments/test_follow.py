"""Deployments are followed by server-sent events."""

import json
import threading
from typing import Any

import pytest

from factories import Tenant
from raymill.deployments import publisher
from raymill.kernel.resources import Resources

from .conftest import ModelServer, model_server
from .test_rollouts import deploy

pytestmark = pytest.mark.integration


def follow(tenant: Tenant, deployment_id: str, last: str | None = None, **params: Any) -> list[dict[str, Any]]:
    """Return the events of a stream that ends."""
    headers = {"Last-Event-ID": last} if last else {}
    answer = tenant.get(f"/deployments/{deployment_id}/events", params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [_event(block) for block in answer.text.split("\n\n") if block.strip()]


def _event(block: str) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in block.strip().splitlines())
    return {"event": fields["event"], "event_id": fields.get("id"), **json.loads(fields["data"])}


def test_a_settled_deployment_tells_its_state_and_ends(alice: Tenant, digits: int, server: ModelServer) -> None:
    id_ = deploy(alice)
    (state,) = follow(alice, id_)
    assert (state["event"], state["status"], state["traffic"]) == ("state", "ready", {"1": 100})
    assert state["revisions"] == [{"number": 1, "status": "ready", "reason": None}]
    assert follow(alice, id_, last=state["event_id"]) == []


def test_a_change_is_followed_to_its_end(alice: Tenant, digits: int, resources: Resources) -> None:
    id_ = deploy(alice)
    stopped = threading.Event()

    def sweep() -> None:
        with model_server(resources, "one"):
            while not stopped.wait(0.05):
                publisher.sweep(resources)

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    try:
        states = follow(alice, id_, seconds=20)
    finally:
        stopped.set()
        sweeping.join()
    assert states[0]["status"] == "deploying"
    assert (states[-1]["status"], states[-1]["traffic"]) == ("ready", {"1": 100})


def test_the_time_is_up_and_a_stranger_is_told_nothing(alice: Tenant, bob: Tenant, digits: int) -> None:
    id_ = deploy(alice)
    assert [state["status"] for state in follow(alice, id_, follow=True, seconds=0)] == ["deploying"]
    assert bob.get(f"/deployments/{id_}/events", params={"seconds": 0}).status_code == 404


def test_a_dead_session_ends_the_stream(alice: Tenant, digits: int) -> None:
    id_ = deploy(alice)
    leaving = threading.Timer(0.3, lambda: alice.post("/auth/logout-all"))
    leaving.start()
    events = follow(alice, id_, follow=True, seconds=20)
    leaving.join()
    assert (events[-1]["event"], events[-1]["type"]) == ("end", "AUTHENTICATION_ERROR")


def test_a_deleted_deployment_ends_the_stream(alice: Tenant, digits: int) -> None:
    id_ = deploy(alice)
    deleting = threading.Timer(0.3, lambda: alice.delete(f"/deployments/{id_}"))
    deleting.start()
    events = follow(alice, id_, follow=True, seconds=20)
    deleting.join()
    assert (events[-1]["event"], events[-1]["type"]) == ("end", "RESOURCE_NOT_FOUND")
