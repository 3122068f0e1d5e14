"""Deployments are followed by server-sent events."""

import asyncio
import json
import threading
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from factories import Tenant
from raymill.deployments import publisher
from raymill.deployments.follow import Watch
from raymill.kernel.resources import Resources
from raymill.kernel.settings import LimitSettings, Settings
from timing import Clock, until

from .conftest import ModelServer, model_server, once_followed, token
from .test_rollouts import deploy

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings that let one account follow two streams, and a process keep three."""
    return settings.model_copy(update={"limits": LimitSettings(streams=3, streams_per_principal=2)})


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


def test_a_dead_session_ends_the_stream(alice: Tenant, digits: int, looks: list[str]) -> None:
    id_ = deploy(alice)
    with once_followed(looks, lambda: alice.post("/auth/logout-all")):
        events = follow(alice, id_, follow=True, seconds=20)
    assert (events[-1]["event"], events[-1]["type"]) == ("end", "AUTHENTICATION_ERROR")


def test_a_deleted_deployment_ends_the_stream(alice: Tenant, digits: int, looks: list[str]) -> None:
    id_ = deploy(alice)
    with once_followed(looks, lambda: alice.delete(f"/deployments/{id_}")):
        events = follow(alice, id_, follow=True, seconds=20)
    assert (events[-1]["event"], events[-1]["type"]) == ("end", "RESOURCE_NOT_FOUND")


def test_all_that_is_followed_is_looked_at_by_one_question(
    alice: Tenant, resources: Resources, digits: int, looks: list[str]
) -> None:
    followed, other = deploy(alice), deploy(alice, name="other")
    clock = Clock()
    watch = Watch(resources, monotonic=clock)

    async def marks() -> tuple[str | None, str | None]:
        return await watch.mark(followed), await watch.mark(other)

    with watch.following(followed), watch.following(other), watch.following(other):
        before = asyncio.run(marks())
        alice.post(f"/deployments/{followed}/stop")
        assert asyncio.run(marks()) == before
        assert len(looks) == 1
        clock.now += 1
        changed, same = asyncio.run(marks())
        assert (changed != before[0], same, len(looks)) == (True, before[1], 2)
        alice.delete(f"/deployments/{followed}")
        clock.now += 1
        assert asyncio.run(marks()) == (None, before[1])


def test_streams_are_bounded_by_account_and_process_and_free_their_place(
    alice: Tenant, bob: Tenant, digits: int, platform_url: str
) -> None:
    id_ = deploy(alice)
    joined = alice.put(f"/projects/{alice.project_id}/members/{bob.user_id}", json={"role": "viewer"})
    assert joined.is_success, joined.text

    def opened(tenant: Tenant) -> Any:
        url = f"{platform_url}/api/v1/deployments/{id_}/events"
        login = {"Authorization": f"Bearer {token(tenant)}"}
        return httpx.stream("GET", url, params={"follow": True}, headers=login, timeout=60)

    def status(tenant: Tenant) -> int:
        return int(tenant.get(f"/deployments/{id_}/events", params={"seconds": 0}).status_code)

    with ExitStack() as streams:
        for _ in range(2):
            stream = streams.enter_context(opened(alice))
            assert stream.status_code == 200
        refused = alice.get(f"/deployments/{id_}/events", params={"seconds": 0})
        assert (refused.status_code, refused.json()["type"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert refused.headers["retry-after"] == "5"
        stream = streams.enter_context(opened(bob))
        assert stream.status_code == 200
        assert status(bob) == 503
    until(lambda: status(alice) == 200)
    until(lambda: status(bob) == 200)
