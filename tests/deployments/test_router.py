"""Deployments over HTTP, with a model server that follows."""

from pathlib import Path
from typing import Any

import pytest

from factories import Tenant, register
from model_makers import add_version
from raymill.kernel.resources import Resources
from raymill.registry import lineage, pins, versions

from .conftest import ModelServer, until
from .test_rollouts import ended

pytestmark = pytest.mark.integration


def body(tenant: Tenant, **changes: Any) -> dict[str, Any]:
    return {"project_id": tenant.project_id, "name": "digits", "model": "digits"} | changes


def deploy(tenant: Tenant, **changes: Any) -> dict[str, Any]:
    answer = tenant.post("/deployments", json=body(tenant, **changes))
    assert answer.status_code == 202, answer.text
    deployment: dict[str, Any] = answer.json()
    return deployment


def test_deployment_is_ready_when_its_answer_arrives(alice: Tenant, digits: int, server: ModelServer) -> None:
    made = deploy(alice)
    assert made["status"] == "pending"
    assert made["endpoint"] == "http://127.0.0.1:8000/v2/models/alice-project.digits"
    assert (made["traffic"], made["pending_traffic"]) == ({}, {"1": 100})
    assert (made["revisions"][0]["model_version"], made["tier"]) == (digits, "serverless")
    held = server.directory.endpoints["alice-project.digits"].document
    assert (held.endpoint_id, held.traffic) == (made["id"], {1: 100})
    read = alice.get(f"/deployments/{made['id']}").json()
    assert (read["status"], read["replicas"], read["reason"]) == ("ready", 1, None)
    assert alice.get(f"/deployments/{made['id']}/status").json()["status"] == "ready"


def test_without_a_model_server_it_stays_deploying(alice: Tenant, digits: int) -> None:
    made = deploy(alice)
    assert alice.get(f"/deployments/{made['id']}/status").json()["status"] == "deploying"


def test_update_makes_a_revision_with_all_traffic(
    alice: Tenant, digits: int, server: ModelServer, resources: Resources, tmp_path: Path
) -> None:
    made = deploy(alice)
    second = add_version(resources, alice, tmp_path, content=b"version 2")
    changed = alice.patch(f"/deployments/{made['id']}", json={"version": second}).json()
    assert (changed["traffic"], changed["pending_traffic"]) == ({"1": 100}, {"2": 100})
    assert [revision["number"] for revision in changed["revisions"]] == [2, 1]
    held = server.directory.endpoints["alice-project.digits"].document
    assert (held.traffic, [revision.number for revision in held.revisions]) == ({2: 100}, [1, 2])
    assert alice.get(f"/deployments/{made['id']}").json()["status"] == "ready"


def test_latest_ready_version_is_served_unless_named(
    alice: Tenant, digits: int, resources: Resources, tmp_path: Path
) -> None:
    add_version(resources, alice, tmp_path, content=b"version 2")
    assert deploy(alice)["revisions"][0]["model_version"] == 2
    assert deploy(alice, name="old", version=1)["revisions"][0]["model_version"] == 1


def test_environments_of_one_name_are_two_endpoints(alice: Tenant, digits: int, server: ModelServer) -> None:
    deploy(alice)
    staging = deploy(alice, environment="staging")
    assert staging["endpoint"].endswith("/alice-project.digits.staging")
    assert set(server.directory.endpoints) == {"alice-project.digits", "alice-project.digits.staging"}


def test_the_name_is_taken_once_per_environment(alice: Tenant, digits: int) -> None:
    deploy(alice)
    answer = alice.post("/deployments", json=body(alice))
    assert (answer.status_code, answer.json()["type"]) == (409, "RESOURCE_CONFLICT")


def test_the_same_idempotency_key_makes_one_deployment(alice: Tenant, digits: int) -> None:
    first, second = (alice.post("/deployments", json=body(alice), headers={"Idempotency-Key": "k1"}) for _ in range(2))
    assert first.json() == second.json()
    assert len(alice.get("/deployments").json()["items"]) == 1


def test_the_same_idempotency_key_changes_a_deployment_once(
    alice: Tenant, digits: int, resources: Resources, server: ModelServer
) -> None:
    id_ = deploy(alice)["id"]
    path = f"/deployments/{id_}"
    for _ in range(2):
        ended(alice, resources, id_)
        alice.patch(path, json={})
    ended(alice, resources, id_)

    def twice(what: str, **body: Any) -> list[dict[str, Any]]:
        headers = {"Idempotency-Key": what}
        answers = [alice.post(f"{path}/{what}", json=body, headers=headers) for _ in range(2)]
        assert all(answer.is_success for answer in answers), answers[0].text
        return [answer.json() for answer in answers]

    # Each would go on by itself: further back, to another revision, or from stopped to started.
    assert [found["traffic"] for found in twice("rollback")] == [{"2": 100}] * 2
    assert [found["traffic"] for found in twice("promote", revision=3)] == [{"3": 100}] * 2
    assert [found["status"] for found in twice("stop")] == ["stopped"] * 2
    first, second = twice("start")
    assert first == second
    assert alice.get(path).json()["traffic"] in ({}, {"3": 100})
    refused = alice.post(f"{path}/promote", json={"revision": 1}, headers={"Idempotency-Key": "promote"})
    assert (refused.status_code, refused.json()["type"]) == (409, "RESOURCE_CONFLICT")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"tier": "serverless", "resources": {"cpus": 2}}, 422, "no replicas of its own"),
        ({"scaling": {"min_replicas": 3, "max_replicas": 2}}, 422, "min_replicas"),
        ({"tier": "turbo"}, 422, "tier"),
        ({"name": "Not.Allowed"}, 422, "not allowed"),
        ({"model": "nothing"}, 404, "no model 'nothing'"),
        ({"version": 7}, 404, "no version 7"),
        ({"gpus": 1}, 422, "gpus"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    alice: Tenant, digits: int, changes: dict[str, Any], status: int, words: str
) -> None:
    answer = alice.post("/deployments", json=body(alice, **changes))
    assert answer.status_code == status
    assert words in answer.json()["message"]
    assert alice.get("/deployments").json()["items"] == []


def test_auto_tier_is_serverless(alice: Tenant, digits: int) -> None:
    deployment = deploy(alice, tier="auto")
    assert deployment["tier"] == "serverless"
    assert (deployment["resources"]["shared"], deployment["revisions"][0]["app"]) == (True, None)


def test_scaling_says_why_it_is_refused(alice: Tenant, digits: int) -> None:
    made = deploy(alice)
    answer = alice.post(f"/deployments/{made['id']}/scale", json={"replicas": 3})
    assert (answer.status_code, answer.json()["type"]) == (422, "VALIDATION_ERROR")
    assert "shared pool" in answer.json()["message"]


def test_delete_stops_serving_and_frees_the_version(
    alice: Tenant, digits: int, server: ModelServer, resources: Resources
) -> None:
    made = deploy(alice)
    revision = made["revisions"][0]
    with resources.session() as session:
        assert pins.owners(session, revision["model_version_id"]) == ["deployment alice-project.digits"]
    assert alice.delete(f"/deployments/{made['id']}").status_code == 204
    assert server.directory.endpoints == {}
    assert alice.get(f"/deployments/{made['id']}").status_code == 404
    with resources.session() as session:
        assert pins.owners(session, revision["model_version_id"]) == []
        versions.delete_version(session, versions.get_version_by_id(session, revision["model_version_id"]))


def test_a_deleted_name_can_be_deployed_again(alice: Tenant, digits: int, server: ModelServer) -> None:
    alice.delete(f"/deployments/{deploy(alice)['id']}")
    again = deploy(alice)
    assert server.directory.endpoints["alice-project.digits"].document.endpoint_id == again["id"]


def test_lineage_leads_from_the_version_to_the_deployment(alice: Tenant, digits: int, resources: Resources) -> None:
    made = deploy(alice)
    with resources.session() as session:
        edges = lineage.lineage_of(session, "deployment", made["id"])
    assert [(edge.source_id, edge.target_id) for edge in edges] == [
        (made["revisions"][0]["model_version_id"], made["id"])
    ]
    alice.delete(f"/deployments/{made['id']}")
    with resources.session() as session:
        assert lineage.lineage_of(session, "deployment", made["id"]) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/status"),
        ("GET", "/metrics"),
        ("GET", "/endpoints"),
        ("PATCH", ""),
        ("POST", "/scale"),
        ("PUT", "/traffic"),
        ("POST", "/promote"),
        ("POST", "/rollback"),
        ("POST", "/stop"),
        ("POST", "/start"),
        ("DELETE", ""),
    ],
)
def test_strangers_find_nothing(alice: Tenant, bob: Tenant, digits: int, method: str, path: str) -> None:
    made = deploy(alice)
    bodies = {"/scale": {"replicas": 1}, "/traffic": {"weights": {"1": 100}}}
    json = bodies.get(path, {}) if method in ("PATCH", "PUT", "POST") else None
    answer = bob.request(method, f"/deployments/{made['id']}{path}", json=json)
    assert (answer.status_code, answer.json()["message"]) == (404, f"There is no deployment {made['id']}.")
    assert bob.get("/deployments").json()["items"] == []
    assert alice.client.request(method, f"/api/v1/deployments/{made['id']}{path}", json=json).status_code == 401


def test_viewers_read_and_do_not_change(alice: Tenant, digits: int) -> None:
    made = deploy(alice)
    viewer = register(alice.client, "victor")
    alice.put(f"/projects/{alice.project_id}/members/{viewer['user']['id']}", json={"role": "viewer"})
    victor = Tenant(alice.client, viewer["user"]["id"], alice.project_id, viewer)
    assert [each["id"] for each in victor.get("/deployments").json()["items"]] == [made["id"]]
    refused = victor.delete(f"/deployments/{made['id']}")
    assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "deployment:write"})


def test_a_key_without_the_right_may_not_touch_production(alice: Tenant, digits: int) -> None:
    key = alice.post(
        "/api-keys",
        json={"name": "ci", "project_id": alice.project_id, "permissions": ["deployment:read", "deployment:write"]},
    ).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    refused = alice.post("/deployments", json=body(alice), headers=headers)
    assert (refused.status_code, refused.json()["details"]) == (403, {"permission": "deployment:production"})
    assert alice.post("/deployments", json=body(alice, environment="staging"), headers=headers).status_code == 202


def test_list_filters_by_project(alice: Tenant, digits: int) -> None:
    made = deploy(alice)
    assert [d["id"] for d in alice.get(f"/deployments?project_id={alice.project_id}").json()["items"]] == [made["id"]]
    assert alice.get("/deployments?project_id=prj_other").json()["items"] == []


def test_a_new_member_may_invoke_and_a_removed_one_may_not(alice: Tenant, bob: Tenant, server: ModelServer) -> None:
    path = f"/projects/{alice.project_id}/members/{bob.user_id}"
    alice.put(path, json={"role": "viewer"})
    until(lambda: server.directory.members[alice.project_id].get(bob.user_id))
    alice.delete(path)
    assert bob.user_id not in server.directory.members[alice.project_id]
