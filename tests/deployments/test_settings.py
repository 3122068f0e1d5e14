"""Settings of deployments: live as soon as they are answered, and refused where they cannot be honoured."""

from typing import Any

import pytest

from factories import Tenant, make_admin
from raymill.deployments.rollouts import revisions_of, settle
from raymill.kernel.resources import Resources

from .conftest import NAME, ModelServer
from .test_reconcile import import_program

pytestmark = pytest.mark.integration

OPTIONS: dict[str, Any] = {
    "routing": {"sticky_header": "X-User"},
    "rate_limit": {"requests_per_s": 100.0, "per_caller_per_s": 5.0},
    "timeout_s": 2.5,
    "max_queued": 7,
    "batching": {"max_size": 8, "max_wait_ms": 1.5},
    "logging": {"sample_rate": 0.5, "payloads": True, "redact": ["name"]},
}


def deploy(tenant: Tenant, **changes: Any) -> dict[str, Any]:
    body = {"project_id": tenant.project_id, "name": "digits", "model": "digits"} | changes
    answer = tenant.post("/deployments", json=body)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def served(server: ModelServer) -> dict[str, Any]:
    document = server.directory.endpoints[NAME].document.model_dump()
    names = ("sticky_header", "rate_limit", "timeout_s", "max_queued", "batching")
    log = {name: document["log"][name] for name in OPTIONS["logging"]}
    log["redact"] = list(log["redact"])
    return {name: document[name] for name in names} | {"log": log}


LIVE = {**OPTIONS, "sticky_header": "X-User", "log": OPTIONS["logging"]}
del LIVE["routing"], LIVE["logging"]


def test_a_deployment_is_made_with_its_settings(alice: Tenant, digits: int, server: ModelServer) -> None:
    made = deploy(alice, **OPTIONS)
    assert {name: made[name] for name in OPTIONS} == OPTIONS
    assert served(server) == LIVE


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_each_setting_changes_alone_and_at_once(alice: Tenant, digits: int, server: ModelServer, name: str) -> None:
    made = deploy(alice)
    before = served(server)
    changed = alice.patch(f"/deployments/{made['id']}", json={name: OPTIONS[name]}).json()
    assert (changed[name], changed["pending_traffic"], len(changed["revisions"])) == (OPTIONS[name], {}, 1)
    live = {"routing": "sticky_header", "logging": "log"}.get(name, name)
    assert served(server) == {**before, live: LIVE[live]}
    assert alice.get(f"/deployments/{made['id']}").json()["status"] == "ready"


def test_null_takes_a_limit_away(alice: Tenant, digits: int, server: ModelServer) -> None:
    made = deploy(alice, **OPTIONS)
    alice.patch(f"/deployments/{made['id']}", json={"rate_limit": None, "max_queued": None, "batching": None})
    assert served(server) == {**LIVE, "rate_limit": None, "max_queued": None, "batching": None}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"tier": "dedicated"}, "tier cannot change"),
        ({"name": "new", "environment": "staging"}, "name, environment cannot change"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"timeout_s": None}, "timeout_s"),
        ({"logging": {"sample_rate": 1.5}}, "less than or equal"),
        ({"batching": {"max_size": 1}}, "greater than or equal"),
        ({"routing": {"sticky_header": "a b"}}, "pattern"),
        ({"resources": {"cpus": 2}}, "no replicas of its own"),
        ({"scaling": {"max_replicas": 2}}, "no replicas of its own"),
        ({"resources": None, "scaling": None}, "resources, scaling cannot be null"),
        ({"access": None}, "access cannot be null"),
        ({"promote": True, "timeout_s": 5}, "promote goes with a new revision"),
        ({"promote": False, "alias": None}, "promote goes with a new revision"),
    ],
)
def test_what_cannot_be_honoured_is_refused(alice: Tenant, digits: int, body: dict[str, Any], words: str) -> None:
    made = deploy(alice)
    refused = alice.patch(f"/deployments/{made['id']}", json=body)
    assert (refused.status_code, words in refused.text) == (422, True), refused.text


def test_a_dedicated_deployment_scales(alice: Tenant) -> None:
    import_program(alice, "net")
    path = f"/deployments/{deploy(alice, name='net', model='net')['id']}"

    def scaled(**wish: int) -> tuple[int, int]:
        answer = alice.post(f"{path}/scale", json=wish)
        assert answer.status_code == 202, answer.text
        scaling = answer.json()["scaling"]
        return scaling["min_replicas"], scaling["max_replicas"]

    assert scaled(replicas=3) == (3, 3)
    assert scaled(max_replicas=5) == (3, 5)
    assert scaled(replicas=0) == (0, 1)
    crossed = alice.post(f"{path}/scale", json={"min_replicas": 2})
    assert (crossed.status_code, "set both" in crossed.json()["message"]) == (422, True)
    assert alice.post(f"{path}/scale", json={"replicas": 1, "max_replicas": 2}).status_code == 422
    changed = alice.patch(path, json={"resources": {"cpus": 2}}).json()
    assert (changed["resources"]["cpus"], len(changed["revisions"])) == (2, 1)


def test_a_dedicated_deployment_does_not_batch(alice: Tenant, digits: int) -> None:
    import_program(alice, "net")
    for more in ({"name": "net", "model": "net"}, {"tier": "dedicated"}):
        body = {"project_id": alice.project_id, "name": "digits", "model": "digits", "batching": {}} | more
        refused = alice.post("/deployments", json=body)
        assert (refused.status_code, "batching is for the serverless tier" in refused.text) == (422, True), refused.text
    assert alice.get("/deployments").json()["items"] == []
    path = f"/deployments/{deploy(alice, name='net', model='net')['id']}"
    assert alice.patch(path, json={"batching": {"max_size": 8}}).status_code == 422
    assert alice.patch(path, json={"batching": None}).status_code == 200


def test_replicas_of_a_dedicated_deployment_count_against_the_quotas(alice: Tenant, bob: Tenant) -> None:
    admin = make_admin(bob)
    import_program(alice, "net")
    path = f"/deployments/{deploy(alice, name='net', model='net', resources={'cpus': 2})['id']}"

    def used() -> float:
        found: float = alice.get(f"/projects/{alice.project_id}/usage").json()["quotas"]["cpus"]["used"]
        return found

    assert used() == 2
    assert alice.post(f"{path}/scale", json={"replicas": 3}).status_code == 202
    assert used() == 6
    admin.put(f"/projects/{alice.project_id}/quotas", json={"cpus": 7}).raise_for_status()
    refused = alice.post(f"{path}/scale", json={"replicas": 4})
    assert (refused.status_code, refused.json()["details"]["quota"]) == (409, "cpus")
    assert alice.get(path).json()["scaling"]["max_replicas"] == 3
    alice.post(f"{path}/stop")
    assert used() == 0
    admin.put(f"/projects/{alice.project_id}/quotas", json={"cpus": 1}).raise_for_status()
    assert alice.post(f"{path}/start").status_code == 409


def test_every_app_of_a_dedicated_deployment_counts_but_one_on_its_way(
    alice: Tenant, bob: Tenant, resources: Resources
) -> None:
    admin = make_admin(bob)
    import_program(alice, "net")
    id_ = deploy(alice, name="net", model="net", resources={"cpus": 2})["id"]
    path = f"/deployments/{id_}"

    def used() -> float:
        found: float = alice.get(f"/projects/{alice.project_id}/usage").json()["quotas"]["cpus"]["used"]
        return found

    def warmed(number: int) -> None:
        with resources.session() as session:
            assert settle(session, id_, {number: ""})
            for row in revisions_of(session, [id_]):
                row.app_status, row.app_replicas = "RUNNING", 1

    def more() -> int:
        return int(alice.patch(path, json={"version": 1, "promote": False}).status_code)

    warmed(1)
    admin.put(f"/projects/{alice.project_id}/quotas", json={"cpus": 4}).raise_for_status()
    assert [(more(), used()) for _ in range(3)] == [(200, 2), (200, 4), (409, 4)]
    warmed(2)
    warmed(3)
    assert used() == 2
    admin.put(f"/projects/{alice.project_id}/quotas", json={"cpus": 2}).raise_for_status()
    split = {"weights": {"1": 50, "2": 50}}
    assert alice.put(f"{path}/traffic", json=split).json()["details"]["quota"] == "cpus"
    admin.put(f"/projects/{alice.project_id}/quotas", json={"cpus": 4}).raise_for_status()
    assert (alice.put(f"{path}/traffic", json=split).status_code, used()) == (200, 4)
    # A limit that was lowered takes nothing away, and keeps nobody from going back.
    admin.put(f"/projects/{alice.project_id}/quotas", json={"cpus": 1}).raise_for_status()
    assert (alice.patch(path, json={"timeout_s": 3}).status_code, used()) == (200, 4)
    assert (alice.post(f"{path}/promote", json={"revision": 2}).status_code, used()) == (200, 2)
    assert (alice.post(f"{path}/rollback").status_code, used()) == (200, 2)
