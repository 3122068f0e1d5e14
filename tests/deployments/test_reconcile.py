"""The apps of dedicated revisions: what the plan says, and what the loop does with a cluster that tests can steer."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import Tenant
from raymill.compute.cluster import ClusterUnreachable
from raymill.compute.dynamic_apps import deployment_options
from raymill.deployments.publisher import sweep
from raymill.deployments.reconcile import DedicatedApps, Make, Remove, plan
from raymill.deployments.rollouts import settle
from raymill.deployments.runtime import AppState, WantedApp, spec_of
from raymill.deployments.schemas import ResourceRequest, Scaling
from raymill.kernel.resources import Resources
from raymill.serving.published import channel
from timing import Clock, until

from .conftest import ModelServer

SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
}


def state(status: str = "RUNNING", *, made_from: str | None = "a", message: str = "", replicas: int = 1) -> AppState:
    return AppState(status, message, made_from, replicas)


def test_what_is_missing_is_made_and_what_nobody_wants_goes() -> None:
    assert plan({"ep-1": "a"}, {}) == [Make("ep-1")]
    assert plan({}, {"ep-1": state()}) == [Remove("ep-1")]
    assert plan({"ep-1": "a"}, {"ep-1": state()}) == []
    assert plan({}, {"ep-1": state()}, kept={"ep-1"}) == []


def test_an_app_that_differs_is_made_anew() -> None:
    assert plan({"ep-1": "b"}, {"ep-1": state()}) == [Make("ep-1")]
    # Serve does not know yet what it is made from.
    assert plan({"ep-1": "b"}, {"ep-1": state("DEPLOYING", made_from=None)}) == []


def test_a_failed_app_waits_for_its_time_and_a_dying_one_for_its_end() -> None:
    failed = {"ep-1": state("DEPLOY_FAILED")}
    assert plan({"ep-1": "a"}, failed, may_retry=lambda name: False) == []
    assert plan({"ep-1": "a"}, failed) == [Make("ep-1")]
    for wanted in ({}, {"ep-1": "a"}, {"ep-1": "b"}):
        assert plan(wanted, {"ep-1": state("DELETING")}) == []


NAMES = st.sampled_from([f"ep-{number}" for number in range(6)])


@given(
    st.dictionaries(NAMES, st.sampled_from("ab")),
    st.dictionaries(NAMES, st.builds(state, st.sampled_from(["RUNNING", "DEPLOYING", "DELETING", "DEPLOY_FAILED"]))),
)
def test_once_done_nothing_is_left_to_do(wanted: dict[str, str], observed: dict[str, AppState]) -> None:
    for action in plan(wanted, observed):
        if isinstance(action, Make):
            observed[action.name] = state(made_from=wanted[action.name])
        else:
            del observed[action.name]
    left = {name: app for name, app in observed.items() if app.status != "DELETING"}
    assert plan(wanted, observed) == []
    assert left.keys() <= wanted.keys()


def test_what_is_asked_for_reaches_serve() -> None:
    app = WantedApp(
        name="ep-1",
        format="torchscript",
        sha256="0" * 64,
        size_bytes=10,
        signature=SIGNATURE,
        requested=ResourceRequest(cpus=2.5, gpus=0.5, memory_bytes=3 * 2**30).model_dump(),
        scaling=Scaling(
            min_replicas=1, max_replicas=4, target_ongoing_requests=7, scale_to_zero_after_s=9
        ).model_dump(),
    )
    options = deployment_options(spec_of(app, Path("/cache")))
    asked = options["ray_actor_options"]
    assert (asked["num_cpus"], asked["num_gpus"], asked["memory"]) == (2.5, 0.5, 3 * 2**30)
    scaled = options["autoscaling_config"]
    assert (scaled["min_replicas"], scaled["max_replicas"], scaled["target_ongoing_requests"]) == (1, 4, 7)
    assert (scaled["downscale_to_zero_delay_s"], options["max_ongoing_requests"] >= 7) == (9, True)
    other = replace(app, requested=ResourceRequest().model_dump())
    assert deployment_options(spec_of(other, Path("/cache")))["ray_actor_options"]["memory"] > other.size_bytes
    assert other.fingerprint != app.fingerprint


class SteeredApps:
    """A cluster whose apps are what the test says."""

    def __init__(self) -> None:
        self.apps: dict[str, AppState] = {}
        self.made: list[WantedApp] = []
        self.removed: list[str] = []
        self.refuses: set[str] = set()
        self.is_reachable = True
        self.awaited: set[str] = set()

    def observe(self) -> Mapping[str, AppState]:
        if not self.is_reachable:
            raise ClusterUnreachable("the cluster is away")
        return dict(self.apps)

    def make(self, app: WantedApp) -> None:
        if app.name in self.refuses:
            raise RuntimeError("Ray lost the request")
        self.made.append(app)
        self.apps[app.name] = state(made_from=app.fingerprint, replicas=0)

    def remove(self, name: str) -> None:
        self.removed.append(name)
        del self.apps[name]

    def stand_by(self, apps: Collection[WantedApp], observed: Mapping[str, AppState]) -> None:
        self.awaited = {app.name for app in apps if app.is_warm}


@pytest.fixture
def cluster() -> SteeredApps:
    return SteeredApps()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(resources: Resources, cluster: SteeredApps, clock: Clock) -> DedicatedApps:
    return DedicatedApps(resources, cluster, monotonic=clock)


def import_program(tenant: Tenant, name: str, signature: dict[str, Any] = SIGNATURE) -> None:
    found = tenant.get("/models", params={"project_id": tenant.project_id, "name": name}).json()["items"]
    model = found[0] if found else tenant.post("/models", json={"project_id": tenant.project_id, "name": name}).json()
    for_import = {"filename": "m.pt", "signature": json.dumps(signature)}
    answer = tenant.post(f"/models/{model['id']}/versions/import", params=for_import, content=name.encode())
    assert answer.status_code == 201, answer.text


def deploy(tenant: Tenant, model: str, **more: Any) -> dict[str, Any]:
    body = {"project_id": tenant.project_id, "name": model, "model": model, **more}
    answer = tenant.post("/deployments", json=body)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def read(tenant: Tenant, deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tenant.get(f"/deployments/{deployment['id']}").json()
    return found


@pytest.mark.integration
def test_a_programs_deployment_gets_an_app_of_its_own(alice: Tenant, loop: DedicatedApps, cluster: SteeredApps) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net", resources={"cpus": 2}, scaling={"min_replicas": 0, "max_replicas": 3})
    assert (made["tier"], made["resources"]["shared"], made["resources"]["cpus"]) == ("dedicated", False, 2)
    name = f"ep-{made['id']}-r1"
    assert made["revisions"][0]["app"] == name
    loop.step()
    loop.step()
    assert [app.name for app in cluster.made] == [name]
    app = cluster.made[0]
    assert (app.format, app.requested["cpus"], app.scaling["max_replicas"]) == ("torchscript", 2, 3)
    cluster.apps[name] = state(made_from=app.fingerprint, replicas=3)
    loop.step()
    assert read(alice, made)["replicas"] == 3


@pytest.mark.integration
def test_the_pool_refuses_a_program(alice: Tenant, loop: DedicatedApps, cluster: SteeredApps) -> None:
    import_program(alice, "net")
    body = {"project_id": alice.project_id, "name": "net", "model": "net", "tier": "serverless"}
    refused = alice.post("/deployments", json=body)
    assert refused.status_code == 409
    assert "dedicated tier alone" in refused.json()["message"]
    loop.step()
    assert cluster.made == []


@pytest.mark.integration
def test_an_app_that_was_deleted_by_hand_comes_back_and_so_does_a_whole_fleet(
    alice: Tenant, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    for name in ("one", "two"):
        import_program(alice, name)
        deploy(alice, name)
    loop.step()
    cluster.apps.clear()
    cluster.refuses = {cluster.made[0].name}
    loop.step()
    assert len(cluster.made) == 3
    cluster.refuses = set()
    loop.step()
    assert len(cluster.apps) == 2


@pytest.mark.integration
def test_a_deleted_deployment_takes_its_app_along(alice: Tenant, loop: DedicatedApps, cluster: SteeredApps) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net")
    loop.step()
    alice.delete(f"/deployments/{made['id']}")
    loop.step()
    assert cluster.removed == [f"ep-{made['id']}-r1"]


def warmed(resources: Resources, deployment: dict[str, Any], number: int) -> None:
    """Let every model server have warmed a revision."""
    with resources.session() as session:
        assert settle(session, deployment["id"], {number: ""})


def released(alice: Tenant, resources: Resources, loop: DedicatedApps) -> dict[str, Any]:
    """Deploy a program whose first revision has its app, is warm and has all traffic."""
    import_program(alice, "net")
    made = deploy(alice, "net")
    loop.step()
    warmed(resources, made, 1)
    return made


@pytest.mark.integration
def test_processes_stand_by_for_apps_that_have_answered(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net", scaling={"min_replicas": 0, "max_replicas": 1})
    for _ in range(2):
        loop.step()
    assert cluster.awaited == set()
    warmed(resources, made, 1)
    loop.step()
    assert cluster.awaited == {f"ep-{made['id']}-r1"}


@pytest.mark.integration
def test_the_app_before_stays_a_while_after_its_traffic(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, clock: Clock
) -> None:
    made = released(alice, resources, loop)
    import_program(alice, "net", {**SIGNATURE, "labels": ["price"]})
    assert alice.patch(f"/deployments/{made['id']}", json={"version": 2}).status_code == 200
    loop.step()
    assert len(cluster.apps) == 2
    warmed(resources, made, 2)
    loop.step()
    assert cluster.removed == []
    clock.now += resources.settings.controller.keep_apps_s + 1
    loop.step()
    assert cluster.removed == [f"ep-{made['id']}-r1"]


@pytest.mark.integration
def test_of_a_deployment_one_app_stays_that_nothing_wants(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, clock: Clock
) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net")
    warmed(resources, made, 1)
    for number in (2, 3, 4):
        alice.patch(f"/deployments/{made['id']}", json={"version": 1, "promote": False})
        loop.step()
        warmed(resources, made, number)
        clock.now += 1
        loop.step()
    assert sorted(cluster.apps) == [f"ep-{made['id']}-r1", f"ep-{made['id']}-r4"]


@pytest.mark.integration
def test_an_app_that_was_superseded_while_it_ran_goes_at_once(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net")
    loop.step()
    alice.patch(f"/deployments/{made['id']}", json={"version": 1})
    loop.step()
    assert cluster.removed == [f"ep-{made['id']}-r1"]


@pytest.mark.integration
def test_a_stopped_deployment_has_no_app_until_it_starts(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    made = released(alice, resources, loop)
    assert alice.post(f"/deployments/{made['id']}/stop").is_success
    loop.step()
    assert cluster.apps == {}
    assert alice.post(f"/deployments/{made['id']}/start").is_success
    loop.step()
    assert len(cluster.apps) == 1


@pytest.mark.integration
def test_a_stop_that_nobody_noticed_takes_no_replica_away(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, server: ModelServer
) -> None:
    made = ready_program(alice, resources, loop)
    app = cluster.made[0]
    cluster.apps[app.name] = state(made_from=app.fingerprint, replicas=2)
    loop.step()
    assert alice.post(f"/deployments/{made['id']}/stop").json()["replicas"] == 0
    assert alice.post(f"/deployments/{made['id']}/start").is_success
    loop.step()
    until(lambda: now_ready(resources, alice, made))
    assert read(alice, made)["replicas"] == 2


def fail(cluster: SteeredApps, number: int = 0) -> None:
    app = cluster.made[number]
    broken = "It failed. Error:\nraymill.serving.errors.ModelBroken: no zip\nsee the log\n"
    cluster.apps[app.name] = state("DEPLOY_FAILED", made_from=app.fingerprint, message=broken, replicas=0)


@pytest.mark.integration
def test_a_revision_whose_app_fails_never_gets_traffic(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net")
    loop.step()
    fail(cluster)
    loop.step()
    found = read(alice, made)
    assert (found["status"], found["traffic"], found["revisions"][0]["status"]) == ("failed", {}, "failed")
    assert (found["resources"]["shared"], found["resources"]["cpus"]) == (False, 1)
    assert "The app of revision 1 fails: no zip" in found["reason"]
    loop.step()
    assert cluster.removed == [cluster.made[0].name]


@pytest.mark.integration
def test_an_app_with_traffic_that_fails_is_tried_again_ever_later_and_its_deployment_recovers(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, clock: Clock
) -> None:
    made = released(alice, resources, loop)
    tries = []
    for second in range(100):
        clock.now = float(second)
        fail(cluster)
        before = len(cluster.made)
        loop.step()
        tries += [second] * (len(cluster.made) - before)
    assert tries == [10, 30, 70]
    fail(cluster)
    loop.step()
    found = read(alice, made)
    assert (found["status"], found["traffic"]) == ("degraded", {"1": 100})
    assert found["reason"] == "The app of revision 1 fails: no zip"
    cluster.apps[cluster.made[0].name] = state(made_from=cluster.made[0].fingerprint)
    loop.step()
    assert (read(alice, made)["status"], read(alice, made)["reason"]) == ("ready", None)


@pytest.mark.integration
def test_news_of_one_app_does_not_heal_another_and_a_start_is_explained(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net")
    loop.step()
    first = cluster.made[0]
    cluster.apps[first.name] = state("DEPLOYING", made_from=first.fingerprint, message="no node has 1 CPU")
    loop.step()
    assert read(alice, made)["reason"] == "The app of revision 1 is starting: no node has 1 CPU"
    warmed(resources, made, 1)
    alice.patch(f"/deployments/{made['id']}", json={"promote": False})
    loop.step()
    second = cluster.made[-1]
    warmed(resources, made, 2)
    alice.put(f"/deployments/{made['id']}/traffic", json={"weights": {"1": 90, "2": 10}})
    fail(cluster, len(cluster.made) - 1)
    loop.step()
    cluster.apps[first.name] = state(made_from=first.fingerprint, replicas=2)
    loop.step()
    assert first.name != second.name
    assert (read(alice, made)["status"], "revision 2 fails" in read(alice, made)["reason"]) == ("degraded", True)


@pytest.mark.integration
def test_what_replaces_a_broken_app_is_on_its_way_until_its_own_end(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    made = released(alice, resources, loop)
    fail(cluster)
    loop.step()
    assert read(alice, made)["status"] == "degraded"
    alice.patch(f"/deployments/{made['id']}", json={})
    loop.step()
    second = cluster.made[-1]
    cluster.apps[second.name] = state("DEPLOYING", made_from=second.fingerprint, replicas=0)
    loop.step()
    assert read(alice, made)["status"] == "deploying"
    fail(cluster, len(cluster.made) - 1)
    loop.step()
    found = read(alice, made)
    assert (found["status"], found["traffic"], found["revisions"][0]["status"]) == ("degraded", {"1": 100}, "failed")


def now_ready(resources: Resources, tenant: Tenant, deployment: dict[str, Any]) -> bool:
    sweep(resources)
    return read(tenant, deployment)["status"] == "ready"


def ready_program(tenant: Tenant, resources: Resources, loop: DedicatedApps) -> dict[str, Any]:
    """Deploy a program whose app answers."""
    import_program(tenant, "net")
    made = deploy(tenant, "net")
    loop.step()
    loop.step()
    until(lambda: now_ready(resources, tenant, made))
    return made


@pytest.mark.integration
def test_a_scaled_deployment_is_ready_with_its_replicas_and_degraded_when_they_find_no_room(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, clock: Clock, server: ModelServer
) -> None:
    made = ready_program(alice, resources, loop)
    assert alice.post(f"/deployments/{made['id']}/scale", json={"replicas": 3}).json()["status"] == "deploying"
    assert not now_ready(resources, alice, made)
    loop.step()
    # Serve was told, and what it said before that is no answer.
    assert not now_ready(resources, alice, made)
    app = cluster.made[-1]
    cluster.apps[app.name] = state("DEPLOYING", made_from=app.fingerprint, message="2 replicas find no CPU", replicas=1)
    loop.step()
    found = read(alice, made)
    reason = "The app of revision 1 has 1 of 3 replicas: 2 replicas find no CPU"
    assert (found["status"], found["reason"], found["traffic"]) == ("deploying", reason, {"1": 100})
    # Neither another change nor a model server that joins takes that away.
    alice.patch(f"/deployments/{made['id']}", json={"timeout_s": 2})
    loop.step()
    assert read(alice, made)["reason"] == reason
    resources.cache.zadd(channel.SERVERS, {"silent": 9_999_999_999})
    sweep(resources)
    assert read(alice, made)["reason"] == reason
    resources.cache.zrem(channel.SERVERS, "silent")
    clock.now += resources.settings.controller.app_patience_s
    loop.step()
    found = read(alice, made)
    assert (found["status"], found["reason"], found["traffic"]) == ("degraded", reason, {"1": 100})
    alice.put(f"/deployments/{made['id']}/traffic", json={"weights": {"1": 100}})
    loop.step()
    assert (read(alice, made)["status"], read(alice, made)["reason"]) == ("degraded", reason)
    cluster.apps[app.name] = state(made_from=app.fingerprint, replicas=3)
    loop.step()
    found = read(alice, made)
    assert (found["status"], found["reason"], found["replicas"]) == ("ready", None, 3)


@pytest.mark.integration
def test_another_wish_ends_the_wait_for_room(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, clock: Clock, server: ModelServer
) -> None:
    made = ready_program(alice, resources, loop)

    def scaled(replicas: int) -> list[str]:
        alice.post(f"/deployments/{made['id']}/scale", json={"replicas": replicas})
        statuses = [read(alice, made)["status"]]
        loop.step()
        app = cluster.made[-1]
        cluster.apps[app.name] = state("DEPLOYING", made_from=app.fingerprint, replicas=1)
        loop.step()
        statuses.append(read(alice, made)["status"])
        clock.now += resources.settings.controller.app_patience_s
        loop.step()
        return [*statuses, read(alice, made)["status"]]

    assert scaled(50) == ["deploying", "deploying", "degraded"]
    assert scaled(1) == ["deploying", "deploying", "degraded"]
    assert read(alice, made)["reason"] == "The app of revision 1 changes over to new replicas."
    app = cluster.made[-1]
    cluster.apps[app.name] = state(made_from=app.fingerprint)
    loop.step()
    assert read(alice, made)["status"] == "ready"
    assert server.directory.endpoints["alice-project.net"].document.failing == ()


@pytest.mark.integration
def test_model_servers_hear_of_an_app_that_has_nothing_to_answer_with(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, server: ModelServer
) -> None:
    made = ready_program(alice, resources, loop)

    def failing() -> tuple[int, ...]:
        loop.step()
        return server.directory.endpoints["alice-project.net"].document.failing

    app = cluster.made[0]
    # It sleeps.
    assert failing() == ()
    fail(cluster)
    until(lambda: failing() == (1,))
    assert read(alice, made)["status"] == "degraded"
    cluster.apps[app.name] = state("UNHEALTHY", made_from=app.fingerprint, replicas=1)
    until(lambda: failing() == ())


@pytest.mark.integration
def test_a_lost_app_is_told_while_it_is_made_anew(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, server: ModelServer
) -> None:
    made = ready_program(alice, resources, loop)
    cluster.apps.clear()
    loop.step()
    assert read(alice, made)["reason"] == "The app of revision 1 has 0 of 1 replicas."
    loop.step()
    assert now_ready(resources, alice, made)


@pytest.mark.integration
def test_of_several_clusters_one_is_heard(alice: Tenant, resources: Resources, loop: DedicatedApps) -> None:
    import_program(alice, "net")
    made = deploy(alice, "net")
    other = SteeredApps()
    unheard = DedicatedApps(resources, other, is_heard=lambda: False)
    loop.step()
    loop.step()
    unheard.step()
    other.apps[f"ep-{made['id']}-r1"] = state(
        "DEPLOY_FAILED", made_from=other.made[0].fingerprint, message="elsewhere", replicas=0
    )
    unheard.step()
    assert (len(other.made), read(alice, made)["status"], read(alice, made)["reason"]) == (1, "deploying", None)


@pytest.mark.integration
def test_nothing_is_done_while_the_cluster_is_away(alice: Tenant, loop: DedicatedApps, cluster: SteeredApps) -> None:
    import_program(alice, "net")
    deploy(alice, "net")
    cluster.is_reachable = False
    with pytest.raises(ClusterUnreachable):
        loop.step()
    cluster.is_reachable = True
    loop.step()
    assert len(cluster.made) == 1


@pytest.mark.integration
def test_what_is_said_of_an_app_is_said_no_longer_than_it_is_so(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, server: ModelServer
) -> None:
    made = ready_program(alice, resources, loop)
    resources.cache.zadd(channel.SERVERS, {"silent": 9_999_999_999})
    alice.patch(f"/deployments/{made['id']}", json={"timeout_s": 2})
    sweep(resources)
    waits = "Not every model server follows the latest change yet."
    assert read(alice, made)["reason"] == waits
    app = cluster.made[0]
    cluster.apps[app.name] = state("DEPLOYING", made_from=app.fingerprint, replicas=0)
    loop.step()
    sweep(resources)
    assert read(alice, made)["reason"] == "The app of revision 1 has 0 of 1 replicas."
    cluster.apps[app.name] = state(made_from=app.fingerprint)
    loop.step()
    sweep(resources)
    assert read(alice, made)["reason"] == waits
    resources.cache.zrem(channel.SERVERS, "silent")
    until(lambda: now_ready(resources, alice, made))


@pytest.mark.integration
def test_a_cluster_is_whole_when_each_app_has_run_or_failed(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps
) -> None:
    loop.begin()
    assert loop.whole.is_set()
    for name in ("one", "two"):
        import_program(alice, name)
        deploy(alice, name)
    new = DedicatedApps(resources, cluster)
    new.begin()
    new.step()
    assert not new.whole.is_set()
    first, second = cluster.made
    cluster.apps[second.name] = state("DEPLOYING", made_from=second.fingerprint, replicas=0)
    new.step()
    assert not new.whole.is_set()
    fail(cluster, 1)
    new.step()
    assert new.whole.is_set()
    # And whatever becomes of them later, a controller that runs does not wait for them.
    del cluster.apps[first.name]
    new.step()
    assert new.whole.is_set()


@pytest.mark.integration
def test_a_cluster_is_not_held_back_by_an_app_that_was_late_before(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, clock: Clock
) -> None:
    released(alice, resources, loop)
    cluster.apps[cluster.made[0].name] = state("DEPLOYING", made_from=cluster.made[0].fingerprint, replicas=0)
    loop.step()
    clock.now += resources.settings.controller.app_patience_s + 1
    loop.step()
    new = DedicatedApps(resources, cluster)
    new.begin()
    assert new.whole.is_set()


@pytest.mark.integration
def test_an_app_that_was_just_removed_is_not_said_to_run(
    alice: Tenant, resources: Resources, loop: DedicatedApps, cluster: SteeredApps, clock: Clock
) -> None:
    made = released(alice, resources, loop)
    alice.patch(f"/deployments/{made['id']}", json={"version": 1})
    loop.step()
    warmed(resources, made, 2)
    clock.now += resources.settings.controller.keep_apps_s + 1
    loop.step()
    assert cluster.removed == [f"ep-{made['id']}-r1"]
    assert alice.post(f"/deployments/{made['id']}/promote", json={"revision": 1}).json()["traffic"] == {"2": 100}
