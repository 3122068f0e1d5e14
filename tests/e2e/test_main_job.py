"""The main job and its proofs on a whole platform: real databases, Ray, HAProxy and two inference replicas."""

import json
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from raymill.compute.cluster import Cluster
from raymill.compute.isolation import blanked_environment
from raymill.compute.jobs import JobSubmission, RayJobs
from raymill.sdk import Client
from raymill.sdk.errors import AuthenticationFailed, Conflict, NotFound
from whole_platform import Platform, Tenant, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def cluster_of(platform: Platform) -> Cluster:
    """Return a client of the platform's Ray dashboard."""
    url = f"http://127.0.0.1:{platform.environment['RAYMILL_RAY__DASHBOARD_PORT']}"
    return Cluster(url, (platform.home / "ray" / "token").read_text().strip())


def test_the_demo_runs_twice(platform: Platform) -> None:
    for _ in range(2):
        table = platform.command("demo").stdout
        accuracy = float(re.search(r"accuracy (0\.\d+)\s", table.split("predict")[-1])[1])  # type: ignore[index]
        assert accuracy >= 0.95


def test_the_registry_shows_all_of_the_version(tenant: Tenant) -> None:
    version = tenant.version
    assert {artifact.path for artifact in version.artifacts} == {"model.safetensors", "model.onnx", "config.json"}
    assert all(artifact.size > 0 and len(artifact.checksum) == 64 for artifact in version.artifacts)
    assert (version.signature or {})["labels"] == list(range(10))
    kinds = {(edge["source_kind"], edge["target_kind"]) for edge in version.lineage}
    assert {("dataset_version", "training_job"), ("training_job", "model_version")} <= kinds


def test_a_deployment_is_ready_within_a_second(tenant: Tenant) -> None:
    started = time.monotonic()
    deployment = tenant.client.deployments.deploy(project_id=tenant.project_id, name="second", model="digits")
    tenant.client.deployments.wait_until_ready(deployment.id, timeout_s=5)
    assert time.monotonic() - started < 1.0
    tenant.client.deployments.delete(deployment.id)


def test_two_workers_see_disjoint_rows(platform: Platform, tenant: Tenant, digits: Any) -> None:
    job = tenant.client.training_jobs.start(
        project_id=tenant.project_id,
        dataset=tenant.dataset_id,
        model="two",
        hyperparameters={"target": "digit", "epochs": 3},
        resources={"num_workers": 2, "cpus_per_worker": 0.5},
    )
    most_workers = 0

    def watch(_: Any) -> None:
        nonlocal most_workers
        with cluster_of(platform) as cluster:
            actors = cluster.call("GET", "/api/v0/actors", params={"filter_keys": "state", "filter_predicates": "=",
                "filter_values": "ALIVE", "limit": 1000})["data"]["result"]["result"]  # fmt: skip
        workers = [actor for actor in actors if "TrainWorker" in actor["class_name"]]
        most_workers = max(most_workers, len(workers))

    ended = tenant.client.training_jobs.wait(job.id, timeout_s=180, watch=watch)
    log = tenant.client.training_jobs.logs(job.id)
    assert ended.status == "completed", log
    counts = {rank: int(rows) for rank, rows in re.findall(r"worker (\d): (\d+) rows", log)}
    assert set(counts) == {"0", "1"}
    assert sum(counts.values()) == len(digits.train)
    assert most_workers == 2


def test_one_idempotency_key_starts_one_job(platform: Platform, tenant: Tenant) -> None:
    body = {
        "project_id": tenant.project_id,
        "framework": "pytorch",
        "trainer": "tabular-classifier",
        "dataset": {"id": tenant.dataset_id},
        "model": {"name": "once"},
        "hyperparameters": {"target": "digit", "epochs": 1},
    }
    key = tenant.client.api_keys.create(name="idem", project_id=tenant.project_id)
    headers = {"Authorization": f"Bearer {key.key}", "Idempotency-Key": "just-once"}

    def post(changed: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{platform.url}/api/v1/training-jobs", json={**body, **changed}, headers=headers, timeout=60)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, [{}] * 10))
    assert [answer.status_code for answer in answers] == [202] * 10, answers[0].text
    assert len({answer.text for answer in answers}) == 1
    assert post({"name": "other"}).status_code == 409
    tenant.client.training_jobs.wait(answers[0].json()["id"], timeout_s=120)


def test_fifty_keys_work_at_once_after_they_are_made(platform: Platform, tenant: Tenant, digits: Any) -> None:
    def make_and_use(number: int) -> int:
        key = tenant.client.api_keys.create(name=f"k{number}", project_id=tenant.project_id)
        answer = httpx.post(
            f"{tenant.deployment.endpoint}/predict",
            json={"instances": digits.held_out[:1]},
            headers={"X-API-Key": key.key or ""},
            timeout=30,
        )
        tenant.client.api_keys.revoke(key.id)
        return answer.status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make_and_use, range(50))) == [200] * 50


def test_metrics_are_exact_over_two_replicas(tenant: Tenant, digits: Any) -> None:
    deployment = tenant.client.deployments.deploy(project_id=tenant.project_id, name="counted", model="digits")
    deployment = tenant.client.deployments.wait_until_ready(deployment.id, timeout_s=5)
    assert deployment.replicas == 2
    key = tenant.client.api_keys.create(name="load", project_id=tenant.project_id)
    good, bad = {"instances": digits.held_out[:1]}, {"instances": [[1.0, 2.0]]}
    bodies = [bad if number % 27 == 0 and number // 27 < 37 else good for number in range(1000)]
    with httpx.Client(headers={"X-API-Key": key.key or ""}, timeout=30) as http, ThreadPoolExecutor(8) as pool:
        statuses = list(
            pool.map(lambda body: http.post(f"{deployment.endpoint}/predict", json=body).status_code, bodies)
        )
    assert (statuses.count(200), statuses.count(422)) == (963, 37)

    def counted() -> bool:
        metrics = tenant.client.deployments.metrics(deployment.id)
        return (metrics["requests"], metrics["errors"]) == (1000, 37)

    until(counted, within_s=2.0, what="1000 requests and 37 errors in the metrics")


@pytest.mark.parametrize(
    ("body", "status", "type_"),
    [
        (b"{", 400, "VALIDATION_ERROR"),
        (b'{"instances": [["a"]]}', 422, "VALIDATION_ERROR"),
        (b'{"instances": [[1.0]]}', 422, "VALIDATION_ERROR"),
        (b'{"rows": []}', 422, "VALIDATION_ERROR"),
    ],
)
def test_bad_bodies_are_refused_in_shape(tenant: Tenant, body: bytes, status: int, type_: str) -> None:
    token = tenant.client.api_keys.create(name="bad", project_id=tenant.project_id).key or ""
    answer = httpx.post(f"{tenant.deployment.endpoint}/predict", content=body, headers={"X-API-Key": token})
    assert (answer.status_code, answer.json()["type"]) == (status, type_), answer.text
    assert answer.json()["error"] == answer.json()["message"]


def test_missing_wrong_and_foreign_credentials(platform: Platform, tenant: Tenant, digits: Any) -> None:
    body = {"instances": digits.held_out[:1]}
    with Client(platform.url) as anonymous:
        login = anonymous.auth.register(email="mallory@example.com", name="M", password="correct horse battery")
    refused = {
        name: httpx.post(f"{tenant.deployment.endpoint}/predict", json=body, headers=headers).status_code
        for name, headers in {
            "missing": {},
            "wrong": {"Authorization": "Bearer rm_wrong"},
            "foreign": {"Authorization": f"Bearer {login.access_token}"},
        }.items()
    }
    assert refused == {"missing": 401, "wrong": 401, "foreign": 404}


def test_unknown_models_are_not_found(tenant: Tenant) -> None:
    key = tenant.client.api_keys.create(name="none", project_id=tenant.project_id).key or ""
    base = tenant.deployment.endpoint.rsplit("/", 1)[0]
    answer = httpx.post(f"{base}/main-job.nothing/predict", json={"instances": []}, headers={"X-API-Key": key})
    assert (answer.status_code, answer.json()["type"]) == (404, "RESOURCE_NOT_FOUND")


def test_a_users_own_onnx_file_is_served(tenant: Tenant, digits: Any, tmp_path: Any) -> None:
    file = tmp_path / "mine.onnx"
    tenant.client.models.download_artifact(tenant.version.model_id, tenant.version.version, "model.onnx", file)
    model = tenant.client.models.create(project_id=tenant.project_id, name="mine")
    tenant.client.models.import_onnx(model.id, file)
    deployment = tenant.client.deployments.deploy(project_id=tenant.project_id, name="mine", model="mine")
    deployment = tenant.client.deployments.wait_until_ready(deployment.id, timeout_s=5)
    answer = tenant.client.endpoints.predict(deployment.endpoint, digits.held_out[:3])
    assert len(answer.predictions) == 3
    with pytest.raises(Conflict):
        tenant.client.models.delete(model.id)


def test_another_tenants_objects_are_not_found(platform: Platform, tenant: Tenant) -> None:
    with Client(platform.url) as anonymous:
        login = anonymous.auth.register(email="eve@example.com", name="Eve", password="correct horse battery")
    with Client(platform.url, login.access_token) as eve:
        for get, id_ in [
            (eve.projects.get, tenant.project_id),
            (eve.datasets.get, tenant.dataset_id),
            (eve.models.get, tenant.version.model_id),
            (eve.deployments.get, tenant.deployment.id),
        ]:
            with pytest.raises(NotFound):
                get(id_)


def test_a_job_sees_no_secret_of_the_platform(platform: Platform) -> None:
    with cluster_of(platform) as cluster:
        jobs = RayJobs(cluster)
        jobs.submit(JobSubmission(id="job_env", entrypoint="env", env_vars=blanked_environment(), num_cpus=0.1,
            num_gpus=0, metadata={}))  # fmt: skip
        until(lambda: jobs.statuses().get("job_env") == "SUCCEEDED", within_s=60, what="the job ends")
        printed = jobs.logs("job_env")
    assert "PATH=" in printed
    named = [line for line in printed.splitlines() if line.startswith("RAYMILL_")]
    assert all(line.endswith("=") for line in named), named
    config = (platform.home / "config.json").read_text()
    for secret in re.findall(r"://[^:]*:([^@]+)@", config):
        assert secret not in printed


def test_the_key_of_a_job_dies_with_it(platform: Platform, tenant: Tenant) -> None:
    job = next(tenant.client.training_jobs.list(project_id=tenant.project_id, status="completed"))
    with cluster_of(platform) as cluster:
        rows = cluster.call("GET", f"/api/jobs/{job.id}")
    secret = rows["runtime_env"]["env_vars"]["RAYMILL_API_KEY"]
    with Client(platform.url, api_key=secret) as dead, pytest.raises(AuthenticationFailed):
        dead.datasets.get(tenant.dataset_id)


@pytest.mark.parametrize(
    "tool", [["ray", "job", "list"], ["ray", "list", "nodes"], ["serve", "status"]], ids=lambda tool: "-".join(tool)
)
def test_rays_own_tools_work_with_the_printed_environment(platform: Platform, tool: list[str]) -> None:
    exports = platform.command("env").stdout
    program = Path(sys.executable).with_name(tool[0])
    script = f"{exports}\nexec {shlex.join([str(program), *tool[1:]])}"
    done = subprocess.run(
        ["bash", "-c", script], env=platform.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_status_shows_every_part_and_app(platform: Platform) -> None:
    status = json.loads(platform.command("status", "--json").stdout)
    assert {app["name"] for app in status["apps"]} == {"api", "inference", "controller", "console"}
    assert all(app["status"] == "RUNNING" for app in status["apps"])


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/console/", 200, "raymill"),
        ("/api/docs", 200, "swagger"),
        ("/api/healthz", 200, "ok"),
        ("/api/readyz", 200, "ready"),
        ("/api/metrics", 200, "raymill_api_requests_total"),
        ("/v2/health/ready", 200, ""),
        ("/nothing", 404, "RESOURCE_NOT_FOUND"),
        ("/-/routes", 404, "RESOURCE_NOT_FOUND"),
    ],
)
def test_the_public_doors(platform: Platform, path: str, status: int, words: str) -> None:
    answer = httpx.get(f"{platform.url}{path}")
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_the_grpc_door_answers_a_triton_client(platform: Platform) -> None:
    # In a process of its own: its messages have the names of those that the platform registers.
    code = (
        "import sys; from tritonclient.grpc import InferenceServerClient as Client; "
        "client = Client(sys.argv[1]); print(client.is_server_live(), client.is_server_ready())"
    )
    address = f"127.0.0.1:{platform.environment['RAYMILL_HTTP__GRPC_PORT']}"
    command = [sys.executable, "-c", code, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_logs_grow_while_a_job_runs_and_survive_a_restart(platform: Platform, tenant: Tenant, digits: Any) -> None:
    client = tenant.client
    job = client.training_jobs.start(
        project_id=tenant.project_id,
        dataset=tenant.dataset_id,
        model="long",
        hyperparameters={"target": "digit", "epochs": 5000},
    )
    first = until(lambda: client.training_jobs.logs(job.id), within_s=60, what="the first log lines")
    until(lambda: len(client.training_jobs.logs(job.id)) > len(first), within_s=30, what="more log lines")
    client.training_jobs.cancel(job.id)
    assert client.training_jobs.wait(job.id, timeout_s=60).status == "cancelled"
    whole = client.training_jobs.logs(job.id)
    assert whole.startswith(first)
    platform.command("down")
    platform.up()
    answer = client.endpoints.predict(tenant.deployment.endpoint, digits.held_out[:1])
    assert len(answer.predictions) == 1
    assert client.training_jobs.logs(job.id) == whole
