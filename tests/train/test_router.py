"""Training jobs over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from training import SteeredRuntime, make_table, start_job, training_body

from factories import Tenant
from raymill.kernel.resources import Resources
from raymill.train.reconcile import step

pytestmark = pytest.mark.integration


def test_a_job_is_queued_with_everything_filled_in(alice: Tenant, dataset_id: str) -> None:
    job = start_job(alice, dataset_id, name="first")
    assert (job["name"], job["status"], job["logs"], job["error"]) == ("first", "pending", [], None)
    assert job["config"]["dataset"] == {"id": dataset_id, "version": 1}
    assert job["config"]["hyperparameters"]["batch_size"] == 64
    assert alice.get(f"/models/{job['model_id']}").json()["name"] == "reader"
    assert alice.get(f"/training-jobs/{job['id']}").json() == job
    assert alice.get(f"/training-jobs/{job['id']}/status").json()["status"] == "pending"


def test_a_job_restarts_as_its_project_says_unless_it_says_otherwise(alice: Tenant, dataset_id: str) -> None:
    restart = {"on_loss": "resume", "max_restarts": 7}
    alice.patch(f"/projects/{alice.project_id}", json={"settings": {"job_restart": restart}})
    assert start_job(alice, dataset_id)["config"]["restart"] == restart
    own = start_job(alice, dataset_id, restart={"on_loss": "fail"})
    assert own["config"]["restart"] == {"on_loss": "fail", "max_restarts": 7}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hyperparameters": {"target": "colour"}}, "'colour'"),
        ({"hyperparameters": {}}, "target"),
        ({"hyperparameters": {"target": "kind", "epochs": 0}}, "epochs"),
        ({"hyperparameters": {"target": "kind", "momentum": 1}}, "momentum"),
        ({"hyperparameters": {"target": "height"}}, "'height'"),
        ({"trainer": "crystal-ball"}, "crystal-ball"),
        ({"framework": "tensorflow"}, "tensorflow"),
        ({"resources": {"num_workers": 64, "cpus_per_worker": 256}}, "16384 CPUs"),
        ({"resources": {"num_workers": 0}}, "num_workers"),
        ({"model": {"name": "Not A Name"}}, "Not A Name"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(
    alice: Tenant, dataset_id: str, changes: dict[str, Any], named: str
) -> None:
    answer = alice.post("/training-jobs", json=training_body(alice, dataset_id, **changes))
    assert (answer.status_code, answer.json()["type"]) == (422, "VALIDATION_ERROR")
    assert named in answer.json()["message"]
    assert alice.get("/training-jobs").json()["items"] == []


def test_a_target_with_gaps_is_refused(alice: Tenant) -> None:
    gaps = make_table(alice, b"a,b\n" + b"1,x\n,y\n3,x\n4,y\n" * 3)
    answer = alice.post("/training-jobs", json=training_body(alice, gaps, hyperparameters={"target": "a"}))
    assert answer.status_code == 422
    assert "'a'" in answer.json()["message"]


def test_an_unknown_dataset_or_version_is_not_found(alice: Tenant, bob: Tenant, dataset_id: str) -> None:
    for reference in ({"id": "dst_none"}, {"id": dataset_id, "version": 7}):
        answer = alice.post("/training-jobs", json=training_body(alice, dataset_id, dataset=reference))
        assert (answer.status_code, answer.json()["type"]) == (404, "RESOURCE_NOT_FOUND")
    assert bob.post("/training-jobs", json=training_body(bob, dataset_id)).status_code == 404


def test_parallel_posts_with_one_key_make_one_job(alice: Tenant, dataset_id: str) -> None:
    def post(_: int) -> tuple[int, Any]:
        body, key = training_body(alice, dataset_id), {"Idempotency-Key": "one"}
        answer = alice.post("/training-jobs", json=body, headers=key)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, range(10)))
    assert answers == [(202, answers[0][1])] * 10
    assert len(alice.get("/training-jobs").json()["items"]) == 1
    other = training_body(alice, dataset_id, name="other")
    assert alice.post("/training-jobs", json=other, headers={"Idempotency-Key": "one"}).status_code == 409


def test_a_waiting_job_is_cancelled_at_once_and_then_deleted(alice: Tenant, dataset_id: str) -> None:
    job = start_job(alice, dataset_id)
    assert alice.delete(f"/training-jobs/{job['id']}").status_code == 409
    cancelled = alice.post(f"/training-jobs/{job['id']}/cancel").json()
    assert (cancelled["status"], cancelled["error"]) == ("cancelled", None)
    assert alice.post(f"/training-jobs/{job['id']}/cancel").status_code == 409
    assert alice.delete(f"/training-jobs/{job['id']}").status_code == 204
    assert alice.get(f"/training-jobs/{job['id']}").status_code == 404


def test_jobs_are_listed_by_project_and_status(alice: Tenant, dataset_id: str) -> None:
    first, second = start_job(alice, dataset_id), start_job(alice, dataset_id)
    alice.post(f"/training-jobs/{first['id']}/cancel")
    listed = alice.get("/training-jobs", params={"project_id": alice.project_id}).json()["items"]
    assert [job["id"] for job in listed] == [second["id"], first["id"]]
    pending = alice.get("/training-jobs", params={"status": "pending"}).json()["items"]
    assert [job["id"] for job in pending] == [second["id"]]


def test_another_tenant_sees_nothing(alice: Tenant, bob: Tenant, dataset_id: str) -> None:
    job = start_job(alice, dataset_id)
    assert bob.get("/training-jobs").json()["items"] == []
    for method, path in [("GET", ""), ("GET", "/logs"), ("GET", "/status"), ("POST", "/cancel"), ("DELETE", "")]:
        assert bob.request(method, f"/training-jobs/{job['id']}{path}").status_code == 404


def test_only_the_job_itself_reports(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, bob: Tenant, dataset_id: str
) -> None:
    mine, other = start_job(alice, dataset_id), start_job(alice, dataset_id)
    step(resources, runtime)
    path, body = f"/training-jobs/{mine['id']}/progress", {"epoch": 1, "total_epochs": 4}
    assert bob.post(path, json=body).status_code == 404
    assert alice.post(path, json=body).status_code == 403
    stranger = {"X-API-Key": runtime.keys[other["id"]][0]}
    assert client.post(f"/api/v1{path}", json=body, headers=stranger).status_code == 403


def test_a_job_key_opens_nothing_else(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, bob: Tenant, dataset_id: str
) -> None:
    job = start_job(alice, dataset_id)
    step(resources, runtime)
    headers = {"X-API-Key": runtime.keys[job["id"]][0]}
    assert client.get(f"/api/v1/training-jobs/{job['id']}", headers=headers).status_code == 200
    assert client.get(f"/api/v1/projects/{bob.project_id}", headers=headers).status_code == 404
    body = {"name": "more", "project_id": alice.project_id, "permissions": ["*"]}
    assert client.post("/api/v1/api-keys", json=body, headers=headers).status_code == 403
    started = client.post("/api/v1/training-jobs", json=training_body(alice, dataset_id), headers=headers)
    assert started.status_code == 403


def test_a_version_of_another_model_is_no_result(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    job = start_job(alice, dataset_id)
    step(resources, runtime)
    other = alice.post("/models", json={"project_id": alice.project_id, "name": "other"}).json()
    version = alice.post(f"/models/{other['id']}/versions", json={}).json()
    answer = client.post(
        f"/api/v1/training-jobs/{job['id']}/result",
        json={"model_version_id": version["id"]},
        headers={"X-API-Key": runtime.keys[job["id"]][0]},
    )
    assert answer.status_code == 404


def test_a_key_without_the_right_to_models_starts_nothing(client: TestClient, alice: Tenant, dataset_id: str) -> None:
    body = {"name": "jobs", "project_id": alice.project_id, "permissions": ["job:write", "dataset:read"]}
    headers = {"X-API-Key": alice.post("/api-keys", json=body).json()["key"]}
    refused = client.post("/api/v1/training-jobs", json=training_body(alice, dataset_id), headers=headers)
    assert refused.status_code == 403
    assert refused.json()["details"] == {"permission": "model:write"}


def test_a_dataset_that_a_job_used_stays(alice: Tenant, dataset_id: str) -> None:
    start_job(alice, dataset_id)
    assert alice.delete(f"/datasets/{dataset_id}").status_code == 409
