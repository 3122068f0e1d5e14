"""Deployments that follow an alias of their model."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlmodel import delete

from factories import Tenant
from raymill.deployments import publisher
from raymill.deployments.bindings import follow_aliases
from raymill.kernel.events import OutboxEvent
from raymill.kernel.resources import Resources
from raymill.registry import aliases, service
from raymill.registry.pins import owners
from raymill.registry.versions import get_version

from .conftest import ModelServer
from .test_rollouts import deploy, ended, read, serves

pytestmark = pytest.mark.integration


@pytest.fixture
def model_id(alice: Tenant, three: int) -> str:
    """A model of three versions, the first of which is the champion."""
    found: str = alice.get("/models", params={"name": "digits"}).json()["items"][0]["id"]
    champion(alice, found, 1)
    return found


def champion(tenant: Tenant, model_id: str, version: int) -> None:
    answer = tenant.put(f"/models/{model_id}/aliases/champion", json={"version": version})
    assert answer.status_code == 200, answer.text


def move_unnoticed(resources: Resources, model_id: str, version: int) -> None:
    """Move the alias as a process does that dies before it delivers, and whose event is lost."""
    with resources.database.session() as session:
        aliases.set_alias(session, model=service.get_model(session, model_id), alias="champion", version=version)
    with resources.database.session() as session:
        session.execute(delete(OutboxEvent))


def versions_of(deployment: dict[str, Any]) -> list[int]:
    return [revision["model_version"] for revision in deployment["revisions"]]


def test_a_move_makes_a_revision_at_once(
    alice: Tenant, model_id: str, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, alias="champion", environment="staging")
    other = deploy(alice, name="fixed", version=1)
    key = "alice-project.digits.staging"
    assert (ended(alice, resources, id_)["alias"], read(alice, other)["alias"]) == ("champion", None)
    assert server.directory.endpoints[key].document.traffic == {1: 100}
    champion(alice, model_id, 3)
    assert versions_of(read(alice, id_)) == [3, 1]
    found = ended(alice, resources, id_)
    assert server.directory.endpoints[key].document.traffic == {2: 100}
    assert (found["status"], found["alias_reason"], versions_of(found)) == ("ready", None, [3, 1])
    assert versions_of(read(alice, other)) == [1]
    with resources.session() as session:
        assert owners(session, get_version(session, model_id, 3).id) == [f"deployment {key}"]
    champion(alice, model_id, 1)
    found = ended(alice, resources, id_)
    assert (versions_of(found), found["traffic"]) == ([1, 3, 1], {"3": 100})


def test_a_lost_event_is_found_by_the_sweep_and_makes_one_revision(
    alice: Tenant, model_id: str, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, alias="champion")
    ended(alice, resources, id_)
    move_unnoticed(resources, model_id, 2)
    assert versions_of(read(alice, id_)) == [1]
    publisher.sweep(resources)
    assert versions_of(ended(alice, resources, id_)) == [2, 1]
    serves(server, {2: 100})
    move_unnoticed(resources, model_id, 3)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(follow_aliases, resources) for _ in range(4)]:
            done.result()
    assert versions_of(read(alice, id_)) == [3, 2, 1]


def test_a_revision_that_fails_leaves_the_old_one_until_the_alias_moves_on(
    alice: Tenant, model_id: str, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, alias="champion")
    ended(alice, resources, id_)
    server.broken[2] = "no graph in it"
    champion(alice, model_id, 2)
    found = ended(alice, resources, id_)
    assert (found["status"], found["traffic"]) == ("degraded", {"1": 100})
    assert found["reason"] == "Revision 2 did not become ready: no graph in it"
    champion(alice, model_id, 3)
    found = ended(alice, resources, id_)
    assert (found["status"], found["reason"], found["traffic"]) == ("ready", None, {"3": 100})


def test_of_two_moves_the_newer_one_counts(alice: Tenant, model_id: str) -> None:
    id_ = deploy(alice, alias="champion")
    champion(alice, model_id, 2)
    champion(alice, model_id, 3)
    found = read(alice, id_)
    assert (found["pending_traffic"], versions_of(found)) == ({"3": 100}, [3, 2, 1])
    assert [row["status"] for row in found["revisions"]] == ["warming", "failed", "failed"]


def test_without_its_alias_a_deployment_stays_as_it_is(
    alice: Tenant, model_id: str, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, alias="champion")
    ended(alice, resources, id_)
    assert alice.delete(f"/models/{model_id}/aliases/champion").status_code == 204
    found = ended(alice, resources, id_)
    assert (found["status"], found["traffic"], versions_of(found)) == ("ready", {"1": 100}, [1])
    assert found["alias_reason"] == "The alias 'champion' is gone; the revisions stay."
    assert alice.get(f"/deployments/{id_}/status").json()["alias_reason"] == found["alias_reason"]
    champion(alice, model_id, 2)
    found = ended(alice, resources, id_)
    assert (found["alias_reason"], found["traffic"]) == (None, {"2": 100})


def test_a_version_that_cannot_be_served_is_named_as_the_reason(
    alice: Tenant, model_id: str, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, alias="champion")
    ended(alice, resources, id_)
    alice.post(f"/models/{model_id}/versions", json={})
    alice.put(f"/models/{model_id}/versions/4/artifacts/notes.txt", params={"type": "config"}, content=b"none")
    alice.post(f"/models/{model_id}/versions/4/complete", json={})
    champion(alice, model_id, 4)
    found = ended(alice, resources, id_)
    assert (found["status"], found["traffic"], versions_of(found)) == ("ready", {"1": 100}, [1])
    assert found["alias_reason"].startswith("The alias 'champion' names version 4: Version 4 has no ONNX artifact")
    champion(alice, model_id, 2)
    assert ended(alice, resources, id_)["alias_reason"] is None
    serves(server, {2: 100})


def test_what_is_done_by_hand_stays_until_the_alias_moves(
    alice: Tenant, model_id: str, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice, alias="champion")
    ended(alice, resources, id_)
    champion(alice, model_id, 2)
    ended(alice, resources, id_)
    alice.post(f"/deployments/{id_}/rollback")
    assert versions_of(ended(alice, resources, id_)) == [2, 1]
    serves(server, {1: 100})
    champion(alice, model_id, 3)
    ended(alice, resources, id_)
    serves(server, {3: 100})
    alice.post(f"/deployments/{id_}/stop")
    champion(alice, model_id, 1)
    assert read(alice, id_)["status"] == "stopped"
    serves(server, {})
    alice.post(f"/deployments/{id_}/start")
    assert ended(alice, resources, id_)["traffic"] == {"4": 100}
    serves(server, {4: 100})


def test_an_alias_is_followed_from_one_change_to_the_other(alice: Tenant, model_id: str, server: ModelServer) -> None:
    id_ = deploy(alice)

    def change(**body: Any) -> tuple[str | None, list[int]]:
        answer = alice.patch(f"/deployments/{id_}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["alias"], versions_of(answer.json())

    assert versions_of(read(alice, id_)) == [3]
    assert change(alias="champion") == ("champion", [1, 3])
    assert change(timeout_s=2) == ("champion", [1, 3])
    assert change() == ("champion", [1, 1, 3])
    assert change(version=2) == (None, [2, 1, 1, 3])
    assert change(alias="champion", version=None)[0] == "champion"
    assert change(alias=None) == (None, [1, 2, 1, 1, 3])
    champion(alice, model_id, 3)
    assert change(timeout_s=3) == (None, [1, 2, 1, 1, 3])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"alias": "champion", "version": 1}, 422, "either version or alias"),
        ({"alias": "challenger"}, 404, "has no alias 'challenger'"),
    ],
)
def test_what_names_no_version_is_refused(
    alice: Tenant, model_id: str, body: dict[str, Any], status: int, words: str
) -> None:
    new = {"project_id": alice.project_id, "name": "digits", "model": "digits"} | body
    refused = alice.post("/deployments", json=new)
    assert (refused.status_code, words in refused.json()["message"]) == (status, True), refused.text
    id_ = deploy(alice, version=1)
    refused = alice.patch(f"/deployments/{id_}", json=body)
    assert (refused.status_code, words in refused.json()["message"]) == (status, True), refused.text
    assert versions_of(read(alice, id_)) == [1]


@pytest.mark.parametrize("alias", ["", "nobody"])
def test_an_alias_that_is_not_there_deploys_nothing(alice: Tenant, model_id: str, alias: str) -> None:
    project_id = alice.project_id
    body = {"project_id": project_id, "name": "digits", "model": "digits", "alias": alias}
    assert alice.post("/deployments", json=body).status_code == 404
    assert alice.get("/deployments", params={"project_id": project_id}).json()["items"] == []
