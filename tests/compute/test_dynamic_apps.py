"""What a dynamic application is deployed with, and what Serve's answer says of one; no Ray runs here."""

from typing import Any

import httpx
import pytest

from raymill.compute.cluster import Cluster
from raymill.compute.dynamic_apps import AppSpec, AppState, DynamicApps, deployment_options
from raymill.compute.standby import Node, Replica, Standbys, Variables


def spec(**changes: Any) -> AppSpec:
    known: dict[str, Any] = {
        "name": "ep-1",
        "import_path": "raymill.serve_apps.dedicated:build",
        "args": {},
        "fingerprint": "abc",
        "num_cpus": 1.0,
        "num_gpus": 0.0,
        "memory": 2**20,
        "min_replicas": 0,
        "max_replicas": 2,
        "target_ongoing_requests": 2.0,
        "scale_to_zero_after_s": 5.0,
        "max_ongoing_requests": 32,
    }
    return AppSpec(**(known | changes))


def test_the_process_inherits_no_setting_and_opens_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMILL_DATABASE__URL", "postgresql://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    resources = deployment_options(spec(env_vars={"MINE": "1"}))["ray_actor_options"]
    environment = resources["runtime_env"]["env_vars"]
    assert "secret" not in str(environment)
    blank = {"RAYMILL_DATABASE__URL", "RAYMILL_REDIS__URL", "RAYMILL_CONFIG_FILE", "RAYMILL_HOME"}
    assert {environment[name] for name in blank | {"AWS_SECRET_ACCESS_KEY"}} == {""}
    assert (environment["MINE"], environment["RAY_SERVE_ENABLE_DIRECT_INGRESS"]) == ("1", "0")
    assert (resources["num_cpus"], resources["memory"]) == (1.0, 2**20)


def test_a_fixed_number_of_replicas_needs_no_autoscaling() -> None:
    fixed = deployment_options(spec(min_replicas=2))
    assert (fixed["num_replicas"], "autoscaling_config" in fixed) == (2, False)
    scaled = deployment_options(spec())["autoscaling_config"]
    assert (scaled["min_replicas"], scaled["max_replicas"], scaled["downscale_to_zero_delay_s"]) == (0, 2, 5.0)


def test_the_process_that_stands_by_has_the_environment_of_those_that_sleep() -> None:
    started: list[Variables] = []
    standbys = Standbys(lambda: [Node("n1", "")], lambda node, variables: started.append(variables))
    apps = DynamicApps(Cluster("http://dashboard", None), standbys)
    sleeper, awake = spec(setup="some.torch"), spec(name="ep-2", setup="some.skops", min_replicas=1)
    apps.stand_by([sleeper, awake, spec(name="ep-3", setup="some.torch")], {"ep-1", "ep-3"}, {})
    assert started == [deployment_options(sleeper)["ray_actor_options"]["runtime_env"]["env_vars"]]
    assert "some.torch" in started[0].values()
    # Another app of the same environment has taken it.
    running = AppState("RUNNING", "", None, 1, (Replica("r1", "n1", is_running=True),))
    for _ in range(2):
        apps.stand_by([sleeper, spec(name="ep-3", setup="some.torch")], {"ep-1"}, {"ep-3": running})
    assert len(started) == 2


def replica(name: str, state: str) -> dict[str, str]:
    return {"replica_id": name, "node_id": "n1", "state": state}


def observed(*apps: tuple[str, dict[str, Any]]) -> dict[str, AppState]:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"applications": {name: {"source": "imperative"} | row for name, row in apps}})

    cluster = Cluster("http://dashboard", None, transport=httpx.MockTransport(answer))
    return dict(DynamicApps(cluster).observe("ep-"))


def test_serves_answer_tells_what_an_app_was_made_from() -> None:
    deployment = {
        "deployment_config": {"user_config": deployment_options(spec())["user_config"]},
        "replicas": [replica("r1", "RUNNING"), replica("r2", "STARTING"), replica("r3", "STOPPING")],
        "message": "",
    }
    row = {"status": "RUNNING", "message": "", "deployments": {"model": deployment}}
    declared = row | {"source": "declarative"}
    found = observed(("ep-1", row), ("api", row), ("ep-theirs", declared))
    assert found == {"ep-1": AppState("RUNNING", "", "abc", 1)}
    assert found["ep-1"].placed == (Replica("r1", "n1", is_running=True), Replica("r2", "n1", is_running=False))


def test_an_app_that_was_just_made_tells_nothing_yet() -> None:
    fresh = {"status": "DEPLOYING", "message": "", "deployments": {}}
    failed = {"replicas": [], "message": "it broke", "deployment_config": {}}
    broken = {"status": "DEPLOY_FAILED", "message": "", "deployments": {"model": failed}}
    assert observed(("ep-1", fresh), ("ep-2", broken)) == {
        "ep-1": AppState("DEPLOYING", "", None, 0),
        "ep-2": AppState("DEPLOY_FAILED", "it broke", None, 0),
    }
