"""The main job and its proofs on a whole platform: real databases, Ray, HAProxy and two inference replicas."""

import json
import re
import shlex
import shutil
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
from timing import until
from whole_platform import Platform, Tenant

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
    assert [len(row) for row in version.example or []] == [64]
    kinds = {(edge["source_kind"], edge["target_kind"]) for edge in version.lineage}
    assert {("dataset_version", "training_job"), ("training_job", "model_version")} <= kinds


def test_a_deployment_is_ready_within_seconds(tenant: Tenant) -> None:
    started = time.monotonic()
    deployment = tenant.client.deployments.deploy(project_id=tenant.project_id, name="second", model="digits")
    tenant.client.deployments.wait_until_ready(deployment.id, timeout_s=30)
    # With room for a busy machine; how fast it is, benchmarks say.
    assert time.monotonic() - started < 5.0
    tenant.client.deployments.delete(deployment.id)


@pytest.mark.parametrize(
    ("language", "shell"), [("curl", ["bash", "-c"]), ("python", [sys.executable, "-c"])], ids=["curl", "python"]
)
def test_the_examples_of_an_endpoint_work_as_they_stand(
    platform: Platform, tenant: Tenant, language: str, shell: list[str]
) -> None:
    if shutil.which(language) is None and language == "curl":
        pytest.skip("there is no curl")
    key = tenant.client.api_keys.create(name=f"by {language}", project_id=tenant.project_id).key or ""
    environment = platform.environment | {"RAYMILL_TOKEN": key, "RAYMILL_API_KEY": key}
    script = (tenant.client.deployments.get(tenant.deployment.id).examples or {})[language]
    done = subprocess.run([*shell, script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "predictions" in done.stdout) == (0, True), done.stdout + done.stderr


def test_an_endpoint_follows_an_alias_to_another_version(tenant: Tenant, digits: Any, tmp_path: Path) -> None:
    client, first, file = tenant.client, tenant.version, tmp_path / "digits.onnx"
    models, model_id = client.models, tenant.version.model_id
    models.download_artifact(model_id, first.version, "model.onnx", file)
    models.set_alias(model_id, "champion", first.version)
    following = client.deployments.deploy(
        project_id=tenant.project_id, name="following", model="digits", alias="champion"
    )
    client.deployments.wait_until_ready(following.id, timeout_s=60)
    second = models.import_file(model_id, file, signature=first.signature, example=first.example)
    try:
        models.set_alias(model_id, "champion", second.version)
        moved = client.deployments.wait_until_ready(following.id, timeout_s=60)
        key = client.api_keys.create(name="following", project_id=tenant.project_id).key or ""
        body = {"instances": digits.held_out[:1]}
        answer = httpx.post(f"{following.endpoint}/predict", json=body, headers={"X-API-Key": key}, timeout=30)
    finally:
        client.deployments.delete(following.id)
        models.delete_version(model_id, second.version)
    assert (moved.traffic, moved.revisions[0]["model_version"]) == ({"2": 100}, second.version)
    assert (answer.status_code, answer.headers["X-Raymill-Revision"]) == (200, "2")
    assert models.get(model_id).aliases == {}


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
    deployment = tenant.client.deployments.wait_until_ready(deployment.id, timeout_s=30)
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

    until(counted, within_s=20.0, what="1000 requests and 37 errors in the metrics")


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
