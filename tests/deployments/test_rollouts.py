"""Revisions on their way to traffic and back, with model servers that warm them."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlmodel import select

from factories import Tenant
from raymill.deployments import publisher
from raymill.deployments.models import Deployment, Revision
from raymill.deployments.rollouts import settle, to_warm
from raymill.deployments.schemas import RevisionStatus, TrafficUpdate
from raymill.kernel.resources import Resources
from raymill.serving.published import channel
from raymill.serving.published.table import EndpointDocument

from .conftest import NAME, ModelServer, model_server, until
from .test_reconcile import SIGNATURE, import_program

WEIGHTS = st.dictionaries(st.integers(1, 20).map(str), st.integers(0, 100), max_size=6)


def deploy(tenant: Tenant, **changes: Any) -> str:
    body = {"project_id": tenant.project_id, "name": "digits", "model": "digits"} | changes
    answer = tenant.post("/deployments", json=body)
    assert answer.status_code == 202, answer.text
    id_: str = answer.json()["id"]
    return id_


def read(tenant: Tenant, deployment_id: str) -> dict[str, Any]:
    found: dict[str, Any] = tenant.get(f"/deployments/{deployment_id}").json()
    return found


def ended(tenant: Tenant, resources: Resources, deployment_id: str) -> dict[str, Any]:
    """Return a deployment whose change has ended; on a slow machine the sweep ends it, not the request."""

    def look() -> dict[str, Any]:
        publisher.sweep(resources)
        found = read(tenant, deployment_id)
        return {} if found["status"] in ("pending", "deploying") else found

    return until(look, within_s=30)


def serves(server: ModelServer, traffic: dict[int, int]) -> None:
    """Wait until a model server follows; one that is late is told by the sweep."""
    until(lambda: served(server).traffic == traffic, within_s=30)


def served(server: ModelServer) -> EndpointDocument:
    return server.directory.endpoints[NAME].document


@settings(deadline=None)
@given(WEIGHTS)
def test_weights_are_taken_exactly_when_they_sum_to_a_hundred(weights: dict[str, int]) -> None:
    if sum(weights.values()) == 100:
        assert TrafficUpdate(weights=weights).weights == weights
    else:
        with pytest.raises(ValidationError, match="sum to 100"):
            TrafficUpdate(weights=weights)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(1, 9), st.sampled_from(RevisionStatus), max_size=6),
    st.sets(st.integers(1, 9)),
    st.sets(st.integers(1, 9)),
    st.booleans(),
)
def test_what_has_traffic_or_failed_is_not_warmed(
    states: dict[int, RevisionStatus], traffic: set[int], pending: set[int], is_stopped: bool
) -> None:
    rows = [Revision(number=number, status=status) for number, status in states.items()]
    deployment = Deployment(
        traffic={str(number): 1 for number in traffic},
        pending_traffic={str(number): 1 for number in pending},
        status="stopped" if is_stopped else "deploying",
    )
    found = to_warm(deployment, rows)
    new = {number for number, status in states.items() if status == RevisionStatus.WARMING}
    waiting = {n for n, status in states.items() if status == RevisionStatus.READY} & (pending - traffic)
    assert found == (set() if is_stopped else new | waiting)


@pytest.mark.integration
def test_a_first_revision_that_fails_leaves_a_failed_deployment(
    alice: Tenant, digits: int, resources: Resources, server: ModelServer
) -> None:
    server.broken[1] = "no graph in it"
    found = ended(alice, resources, deploy(alice))
    assert (found["status"], found["traffic"], found["pending_traffic"]) == ("failed", {}, {})
    assert found["reason"] == "Revision 1 did not become ready: no graph in it"
    assert (found["revisions"][0]["status"], found["revisions"][0]["reason"]) == ("failed", "no graph in it")
    until(lambda: served(server).revisions == ())


@pytest.mark.integration
def test_the_old_revision_stays_where_the_new_one_fails(
    alice: Tenant, three: int, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, version=1)
    ended(alice, resources, id_)
    server.broken[2] = "no graph in it"
    alice.patch(f"/deployments/{id_}", json={"version": 2})
    found = ended(alice, resources, id_)
    assert (found["status"], found["traffic"]) == ("degraded", {"1": 100})
    assert "Revision 2 did not become ready: no graph in it" in found["reason"]
    assert served(server).traffic == {1: 100}
    alice.patch(f"/deployments/{id_}", json={"version": 3})
    found = ended(alice, resources, id_)
    assert (found["status"], found["reason"], found["traffic"]) == ("ready", None, {"3": 100})


@pytest.mark.integration
def test_no_weight_before_every_live_server_is_warm(
    alice: Tenant, three: int, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, version=1)
    ended(alice, resources, id_)
    with model_server(resources, "two") as other:
        serves(other, {1: 100})
        resources.cache.zadd(channel.SERVERS, {"slow": 9_999_999_999})
        alice.patch(f"/deployments/{id_}", json={"version": 2})
        until(lambda: channel.read_warm(resources.cache, id_, 2).keys() >= {"one", "two"})
        publisher.sweep(resources)
        assert (served(other).traffic, served(other).warming) == ({1: 100}, (2,))
        assert read(alice, id_)["reason"] == "Not every model server follows the latest change yet."
        name = f"endpoint:{NAME}"
        resources.cache.sadd(channel.ack_key(name, other.directory.version_of(name)), "slow")
        publisher.sweep(resources)
        found = read(alice, id_)
        reason = "Warm by now: revision 2 on 2 of 3 model servers."
        assert (found["status"], found["reason"]) == ("deploying", reason)
        resources.cache.zrem(channel.SERVERS, "slow")
        until(lambda: publisher.sweep(resources) or read(alice, id_)["status"] == "ready")
        assert (served(other).traffic, served(other).warming) == ({2: 100}, ())


@pytest.mark.integration
def test_a_revision_may_become_ready_without_traffic_and_get_a_share(
    alice: Tenant, three: int, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, version=1)
    ended(alice, resources, id_)
    alice.patch(f"/deployments/{id_}", json={"version": 2, "promote": False})
    found = ended(alice, resources, id_)
    assert (found["status"], found["traffic"]) == ("ready", {"1": 100})
    assert [row["status"] for row in found["revisions"]] == ["ready", "ready"]
    split = alice.put(f"/deployments/{id_}/traffic", json={"weights": {"1": 90, "2": 10}})
    assert (split.status_code, split.json()["traffic"]) == (200, {"1": 90, "2": 10})
    serves(server, {1: 90, 2: 10})
    assert alice.post(f"/deployments/{id_}/promote", json={}).json()["traffic"] == {"2": 100}
    serves(server, {2: 100})


@pytest.mark.integration
@pytest.mark.parametrize(
    ("weights", "status", "words"),
    [
        ({"1": 90, "2": 11}, 422, "sum to 100"),
        ({}, 422, "sum to 100"),
        ({"1": 101, "2": -1}, 422, "less than or equal"),
        ({"one": 100}, 422, "pattern"),
        ({"1": 90, "7": 10}, 409, "no revision 7"),
        ({"1": 90, "2": 10}, 409, "revision 2 is failed"),
    ],
)
def test_traffic_goes_to_ready_revisions_alone(
    alice: Tenant,
    three: int,
    resources: Resources,
    server: ModelServer,
    weights: dict[str, int],
    status: int,
    words: str,
) -> None:
    id_ = deploy(alice, version=1)
    ended(alice, resources, id_)
    server.broken[2] = "broken"
    alice.patch(f"/deployments/{id_}", json={"version": 2})
    ended(alice, resources, id_)
    refused = alice.put(f"/deployments/{id_}/traffic", json={"weights": weights})
    assert (refused.status_code, words in refused.json()["message"]) == (status, True), refused.text
    assert read(alice, id_)["traffic"] == {"1": 100}


@pytest.mark.integration
def test_rollbacks_walk_back_through_what_had_all_traffic(
    alice: Tenant, three: int, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, version=1)
    ended(alice, resources, id_)
    for version in (2, 3):
        alice.patch(f"/deployments/{id_}", json={"version": version})
        ended(alice, resources, id_)
    alice.put(f"/deployments/{id_}/traffic", json={"weights": {"1": 50, "2": 50}})
    for expected in (3, 2, 1):
        answer = alice.post(f"/deployments/{id_}/rollback")
        assert (answer.status_code, answer.json()["traffic"]) == (200, {str(expected): 100})
        serves(server, {expected: 100})
    refused = alice.post(f"/deployments/{id_}/rollback")
    assert (refused.status_code, "No other ready revision" in refused.json()["message"]) == (409, True)
    assert alice.post(f"/deployments/{id_}/promote", json={}).json()["traffic"] == {"3": 100}


@pytest.mark.integration
def test_a_rollback_ends_a_rollout_under_way(alice: Tenant, three: int, resources: Resources) -> None:
    with model_server(resources, "one"):
        id_ = deploy(alice, version=1)
        until(lambda: read(alice, id_)["status"] == "ready")
    resources.cache.delete(channel.SERVERS)
    alice.patch(f"/deployments/{id_}", json={"version": 2})
    assert read(alice, id_)["pending_traffic"] == {"2": 100}
    found = alice.post(f"/deployments/{id_}/rollback").json()
    assert (found["traffic"], found["pending_traffic"]) == ({"1": 100}, {})
    assert [row["status"] for row in found["revisions"]] == ["failed", "ready"]


@pytest.mark.integration
def test_a_stopped_deployment_answers_nobody_until_it_is_started(
    alice: Tenant, three: int, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, version=1)
    ended(alice, resources, id_)
    alice.patch(f"/deployments/{id_}", json={"version": 2})
    ended(alice, resources, id_)
    stopped = alice.post(f"/deployments/{id_}/stop")
    assert (stopped.status_code, stopped.json()["status"], stopped.json()["replicas"]) == (202, "stopped", 0)
    until(lambda: (served(server).traffic, served(server).revisions) == ({}, ()))
    alice.patch(f"/deployments/{id_}", json={"access": {"policy": "project"}})
    publisher.sweep(resources)
    assert read(alice, id_)["status"] == "stopped"
    assert alice.post(f"/deployments/{id_}/start").json()["status"] == "pending"
    found = ended(alice, resources, id_)
    assert (found["status"], found["traffic"]) == ("ready", {"2": 100})
    assert served(server).traffic == {2: 100}


@pytest.mark.integration
def test_a_stopped_deployment_is_rolled_back_and_starts_with_the_one_before(
    alice: Tenant, three: int, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, version=1)
    ended(alice, resources, id_)
    alice.patch(f"/deployments/{id_}", json={"version": 2})
    ended(alice, resources, id_)
    alice.post(f"/deployments/{id_}/stop")
    found = alice.post(f"/deployments/{id_}/rollback").json()
    assert (found["status"], found["pending_traffic"]) == ("stopped", {"1": 100})
    alice.post(f"/deployments/{id_}/start")
    ended(alice, resources, id_)
    serves(server, {1: 100})


@pytest.mark.integration
def test_a_deployment_that_answers_is_ready_although_another_revision_failed_first(
    alice: Tenant, three: int, resources: Resources
) -> None:
    id_ = deploy(alice, version=1)
    alice.patch(f"/deployments/{id_}", json={"version": 2, "promote": False})
    with resources.session() as session:
        settle(session, id_, {2: "broken"})
    assert read(alice, id_)["status"] == "failed"
    with model_server(resources, "one"):
        with resources.session() as session:
            settle(session, id_, {1: ""})
        publisher.sweep(resources)
        until(lambda: read(alice, id_)["status"] == "ready")
    assert read(alice, id_)["traffic"] == {"1": 100}


@pytest.mark.integration
def test_what_has_nothing_to_answer_with_does_not_start(
    alice: Tenant, digits: int, resources: Resources, server: ModelServer
) -> None:
    server.broken[1] = "broken"
    id_ = deploy(alice)
    ended(alice, resources, id_)
    alice.post(f"/deployments/{id_}/stop")
    refused = alice.post(f"/deployments/{id_}/start")
    assert (refused.status_code, "No revision" in refused.json()["message"]) == (409, True)


@dataclass
class Programs:
    """Two versions of a program, the second of which has all the traffic; a cluster's word is the test's."""

    tenant: Tenant
    resources: Resources
    server: ModelServer
    id: str

    def app(self, number: int, status: str | None, replicas: int = 0) -> None:
        with self.resources.session() as session:
            theirs = select(Revision).where(Revision.deployment_id == self.id, Revision.number == number)
            row = session.exec(theirs).one()
            row.app_status, row.app_replicas = status, replicas

    def post(self, what: str, **body: Any) -> dict[str, Any]:
        answer = self.tenant.post(f"/deployments/{self.id}/{what}", json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def update(self, version: int) -> None:
        assert self.tenant.patch(f"/deployments/{self.id}", json={"version": version}).is_success

    def until_ready(self) -> dict[str, Any]:
        found = ended(self.tenant, self.resources, self.id)
        assert found["status"] == "ready", found["reason"]
        return found

    @property
    def document(self) -> EndpointDocument:
        return self.server.directory.endpoints["alice-project.net"].document


@pytest.fixture
def programs(alice: Tenant, resources: Resources, server: ModelServer) -> Programs:
    """Release the one after the other."""
    import_program(alice, "net")
    import_program(alice, "net", {**SIGNATURE, "labels": ["price"]})
    made = Programs(alice, resources, server, deploy(alice, name="net", model="net", version=1))
    made.app(1, "RUNNING", 1)
    made.until_ready()
    made.update(2)
    made.app(2, "RUNNING", 1)
    assert made.until_ready()["traffic"] == {"2": 100}
    return made


@pytest.mark.integration
@pytest.mark.parametrize("status", [None, "RUNNING"], ids=["gone", "without a replica"])
def test_a_way_back_to_an_app_that_cannot_answer_waits_until_it_can(programs: Programs, status: str | None) -> None:
    programs.app(1, status)
    found = programs.post("rollback")
    assert (found["traffic"], found["pending_traffic"]) == ({"2": 100}, {"1": 100})
    until(lambda: programs.document.warming == (1,))
    programs.app(1, "RUNNING", 1)
    assert programs.until_ready()["traffic"] == {"1": 100}
    # It went back, and there is nothing before it.
    assert programs.tenant.post(f"/deployments/{programs.id}/rollback").status_code == 409


@pytest.mark.integration
def test_a_way_back_that_fails_leaves_the_history_as_it_was(programs: Programs) -> None:
    programs.app(1, None)
    programs.server.broken[1] = "its file is gone"
    programs.post("rollback")
    found = ended(programs.tenant, programs.resources, programs.id)
    assert (found["status"], found["traffic"]) == ("degraded", {"2": 100})
    programs.update(1)
    del programs.server.broken[1]
    programs.app(3, "RUNNING", 1)
    assert programs.until_ready()["traffic"] == {"3": 100}
    assert programs.post("rollback")["traffic"] == {"2": 100}


@pytest.mark.integration
def test_a_release_in_place_of_a_way_back_leaves_the_history_as_it_was(programs: Programs) -> None:
    programs.app(1, None)
    programs.post("rollback")
    programs.update(1)
    programs.app(3, "RUNNING", 1)
    assert programs.until_ready()["traffic"] == {"3": 100}
    assert programs.post("rollback")["traffic"] == {"2": 100}
