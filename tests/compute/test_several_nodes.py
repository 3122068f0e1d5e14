"""The platform on three nodes that share no home, started by hand, behind Ray's Python proxy."""

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from foreign_cluster import ROOT, ForeignCluster, foreign_cluster, guide_block
from open_load import open_load
from raymill.compute.preflight import COSTS
from raymill.sdk import Client
from timing import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

APPS = {"api", "inference", "controller", "console"}
OURS = {"RAYMILL_DATABASE__URL", "RAYMILL_REDIS__URL", "RAYMILL_STORAGE__URL", "RAYMILL_HOME"}
# An imperative application, as the platform's dedicated deployments are.
DYNAMIC = """
import ray
from ray import serve

class Dynamic: pass

ray.init(namespace="serve", log_to_driver=False)
deployment = serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0})(Dynamic)
serve.run(deployment.bind(), name="dynamic", route_prefix=None)
"""
# What an app would find with other settings: the sentence, or nothing.
CHECKS = """
import json, sys, ray
from raymill.compute.nodes import NotShared, check_shared
from raymill.kernel.settings import Settings, StorageSettings

def found(url):
    settings = Settings()
    try:
        check_shared(settings.model_copy(update={"storage": StorageSettings(url=url)}))
    except NotShared as error:
        return error.message

ray.init(log_to_driver=False)
urls = {"as it is": Settings().storage.url, "none": None, "another": "file://" + sys.argv[1]}
print(json.dumps({name: found(url) for name, url in urls.items()}))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ForeignCluster]:
    """A head without CPUs and two further nodes, each with a home of its own."""
    with foreign_cluster() as running:
        running.shell(guide_block("raymill keys make").replace("/shared", str(running.folder)))
        running.environment |= {
            "RAYMILL_KEYS_DIR": f"{running.folder}/raymill-keys",
            "RAYMILL_HTTP__MAX_BODY_BYTES": "1000000",
            "RAYMILL_SERVING__LOG_FLUSH_S": "0.5",
        }
        running.start_head("", "--num-cpus=0", RAYMILL_HOME=str(running.folder / "node-0"))
        for number in (1, 2):
            running.join(number, "--num-cpus=2")
        running.open_door()
        deploy(running, ROOT / "apps.yaml")
        running.log_in()
        yield running


@pytest.fixture(scope="module")
def client(cluster: ForeignCluster) -> Iterator[Client]:
    """A client with the administrator's login."""
    with Client.from_home(cluster.folder / "node-0") as opened:
        yield opened


def deploy(cluster: ForeignCluster, config: Path) -> None:
    command = guide_block("serve deploy").splitlines()[-1]
    cluster.shell(command.replace("apps.yaml", str(config)))
    cluster.await_apps()


def replicas(cluster: ForeignCluster) -> dict[str, set[tuple[int | None, str | None]]]:
    with cluster.client() as connected:
        return {
            app.name: {(one.pid, one.node_ip) for one in app.replicas if one.state == "RUNNING"}
            for app in connected.serve_apps()
        }


def test_the_demo_trains_on_another_node(cluster: ForeignCluster, client: Client) -> None:
    shown = cluster.shell("raymill demo", node="node-0")
    assert float(re.search(r"accuracy (0\.\d+)\s", shown.split("predict")[-1])[1]) >= 0.95  # type: ignore[index]
    job = next(client.training_jobs.list(status="completed"))
    with cluster.client() as connected:
        rows: Any = connected.call("GET", "/api/jobs/")
        heads = {node.id for node in connected.nodes() if node.is_head}
    drivers = [row["driver_node_id"] for row in rows if (row["submission_id"] or "").startswith(job.id)]
    assert len(drivers) == 1
    assert not heads & set(drivers)
    assert "epoch 30/30" in client.training_jobs.logs(job.id)


def test_a_second_deploy_restarts_nothing_and_spares_dynamic_apps(cluster: ForeignCluster) -> None:
    cluster.shell(f"python -c '{DYNAMIC}'", RAY_ADDRESS=f"127.0.0.11:{cluster.ports['gcs']}")
    before = replicas(cluster)
    assert before.keys() == APPS | {"dynamic"}
    deploy(cluster, ROOT / "apps.yaml")
    assert replicas(cluster) == before


def test_status_names_what_is_missing_and_what_it_costs(cluster: ForeignCluster) -> None:
    status = cluster.status()
    assert {lack["variable"]: lack["cost"] for lack in status["missing"]} == {
        name: cost for name, cost in COSTS.items() if name not in OURS
    }
    assert {app["status"] for app in status["apps"]} == {"RUNNING"}


def test_without_our_variables_the_apps_guard_themselves(cluster: ForeignCluster) -> None:
    with httpx.Client(base_url=cluster.url, headers={"X-Request-ID": "mine"}, timeout=30) as http:
        answers = [
            http.get("/api/v1/nothing"),
            http.get("/nothing"),
            http.post("/api/v1/auth/login", content=b"x" * 1_000_001),
            http.post("/api/v1/auth/login", content=(b"x" * 100_000 for _ in range(11))),
            http.post("/v2/models/a.b/predict", content=b"{}"),
        ]
    shapes = [(answer.status_code, answer.headers["x-request-id"], answer.json()["request_id"]) for answer in answers]
    assert shapes == [(status, "mine", "mine") for status in (404, 404, 413, 413, 401)]


def test_replicas_on_two_nodes_answer(cluster: ForeignCluster, client: Client) -> None:
    config = yaml.safe_load((ROOT / "apps.yaml").read_text())
    inference = next(app for app in config["applications"] if app["name"] == "inference")
    inference["deployments"] = [{"name": "inference", "num_replicas": 2, "max_replicas_per_node": 1}]
    with cluster.client() as connected:
        connected.put_serve_config(config)
    until(lambda: len(replicas(cluster)["inference"]) == 2, within_s=60, what="two replicas")
    assert len({address for _, address in replicas(cluster)["inference"]}) == 2
    deployment = next(client.deployments.list())
    until(lambda: client.deployments.get(deployment.id).replicas == 2, within_s=10, what="both hold the table")
    key = client.api_keys.create(name="both", project_id=deployment.project_id).key or ""

    def both_log_what_they_answer() -> bool:
        # A proxy prefers the replica of its own node, and the kernel picks the proxy for each new connection.
        answer = httpx.post(
            f"{deployment.endpoint}/predict", json={"instances": [[0.0] * 64]}, headers={"X-API-Key": key}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        # Two and the one that answered the demo: the limit per node makes every replica anew.
        return len(servers_in(cluster.folder / "objects")) >= 3

    until(both_log_what_they_answer, within_s=30, what="both replicas wrote down what they answered")


def servers_in(folder: Path) -> set[str]:
    """The model servers that wrote a file of the inference log."""
    return {found[0] for path in folder.rglob("*.parquet") if (found := re.findall(r"srv-[0-9a-f]+", path.name))}


def test_the_raylet_of_a_worker_node_is_killed(cluster: ForeignCluster, client: Client) -> None:
    deployment = next(client.deployments.list())
    key = client.api_keys.create(name="load", project_id=deployment.project_id).key or ""
    address = next(found for _, found in replicas(cluster)["inference"] if found != "127.0.0.11")
    [raylet] = [
        process
        for process in cluster.processes()
        if process.name() == "raylet" and f"--node_ip_address={address}" in process.cmdline()
    ]

    def moved() -> bool:
        places = {found for _, found in replicas(cluster)["inference"]}
        return len(places) == 2 and address not in places

    body = {"instances": [[0.0] * 64]}
    with open_load(f"{deployment.endpoint}/predict", headers={"X-API-Key": key}, body=body) as load:
        raylet.kill()
        began = time.monotonic()
        until(moved, within_s=90, what="two replicas on nodes that live")
        moved_s = time.monotonic() - began
        until(lambda: load.good_since(began + moved_s) > 20, within_s=20, what="predictions")
    sys.stderr.write(f"\nraylet killed: {len(load.failures())} of {len(load.predictions)} predictions failed, ")
    sys.stderr.write(f"within {load.outage_s():.1f} s; two replicas again after {moved_s:.1f} s\n")
    assert load.outage_s() < 10


def test_what_only_one_node_has_is_refused(cluster: ForeignCluster, tmp_path: Path) -> None:
    def checks(before: str = "") -> dict[str, Any]:
        address = f"127.0.0.11:{cluster.ports['gcs']}"
        printed = cluster.shell(f"{before}\npython -c '{CHECKS}' {tmp_path}", node="node-0", RAY_ADDRESS=address)
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return found

    found = checks()
    assert found["as it is"] is None
    assert "RAYMILL_STORAGE__URL" in found["none"]
    assert "is another folder on the node 127.0.0.1" in found["another"]
    assert "RAYMILL_KEYS_DIR" in checks("unset RAYMILL_KEYS_DIR")["as it is"]


def test_an_app_whose_store_is_local_does_not_start(cluster: ForeignCluster) -> None:
    config = yaml.safe_load((ROOT / "apps.yaml").read_text())
    inference = next(app for app in config["applications"] if app["name"] == "inference")
    inference["runtime_env"] = {"env_vars": {"RAYMILL_STORAGE__URL": ""}}

    def complaint() -> str:
        answer = connected.call("GET", "/api/serve/applications/")["applications"]["inference"]
        return str(answer["message"]) + "".join(one["message"] for one in answer["deployments"].values())

    with cluster.client() as connected:
        connected.put_serve_config(config)
        until(lambda: "RAYMILL_STORAGE__URL" in complaint(), within_s=60, what="the app says what is wrong")
