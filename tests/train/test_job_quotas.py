"""Places of jobs under their project's quotas: taken at the start, given back at every end."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from training import SteeredRuntime, run, start_job, training_body

from factories import Tenant, make_admin
from raymill.controller.cleanup import collect_blobs
from raymill.kernel.clock import utc_now
from raymill.kernel.resources import Resources
from raymill.train.reconcile import step

pytestmark = pytest.mark.integration


@pytest.fixture
def one_job(alice: Tenant, bob: Tenant) -> None:
    """Let alice's project have one job at a time."""
    make_admin(bob)
    limits = {"concurrent_jobs": 1, "cpus": 2, "gpus": 0}
    assert bob.put(f"/projects/{alice.project_id}/quotas", json=limits).status_code == 200


def usage(tenant: Tenant) -> dict[str, float]:
    shown = tenant.get(f"/projects/{tenant.project_id}/usage").json()["quotas"]
    return {name: shown[name]["used"] for name in ("concurrent_jobs", "cpus", "gpus")}


def refusal(tenant: Tenant, dataset_id: str, **changes: Any) -> dict[str, Any]:
    answer = tenant.post("/training-jobs", json=training_body(tenant, dataset_id, **changes))
    assert answer.status_code == 409, answer.text
    details: dict[str, Any] = answer.json()["details"]
    return details


@pytest.mark.usefixtures("one_job")
def test_a_job_too_many_is_refused_until_another_was_killed(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    job = start_job(alice, dataset_id)
    assert usage(alice) == {"concurrent_jobs": 1, "cpus": 1, "gpus": 0}
    assert refusal(alice, dataset_id)["quota"] == "concurrent_jobs"
    program = alice.post("/jobs/api/jobs/", json={"entrypoint": "true"})
    assert (program.status_code, program.json()["details"]["quota"]) == (409, "concurrent_jobs")
    run(resources, runtime, job)
    runtime.put(job["id"], "FAILED", exit_code=-9)
    step(resources, runtime)
    assert alice.get(f"/training-jobs/{job['id']}").json()["status"] == "failed"
    assert usage(alice) == {"concurrent_jobs": 0, "cpus": 0, "gpus": 0}
    again = start_job(alice, dataset_id)
    assert alice.post(f"/training-jobs/{again['id']}/cancel").is_success
    assert usage(alice)["concurrent_jobs"] == 0


@pytest.mark.usefixtures("one_job")
def test_gpus_are_counted_over_all_workers(alice: Tenant, dataset_id: str) -> None:
    details = refusal(alice, dataset_id, resources={"num_workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0.5})
    assert details == {"quota": "gpus", "used": 0, "asked": 1, "limit": 0}
    assert usage(alice) == {"concurrent_jobs": 0, "cpus": 0, "gpus": 0}


def test_packages_of_jobs_and_checkpoints_are_not_collected(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    package = "/jobs/api/packages/gcs/_ray_pkg_1.zip"
    alice.put(package, content=b"first")
    folder = {"working_dir": "gcs://_ray_pkg_1.zip"}
    assert alice.post("/jobs/api/jobs/", json={"entrypoint": "true", "runtime_env": folder}).status_code == 200
    alice.put(package, content=b"second, which takes its name")
    job = start_job(alice, dataset_id)
    run(resources, runtime, job)
    headers = {"X-API-Key": runtime.keys[job["id"]][-1]}
    where = f"/api/v1/training-jobs/{job['id']}/checkpoint"
    stored = client.put(where, params={"epoch": 1}, content=b"state", headers=headers)
    assert stored.is_success, stored.text
    before = resources.store.list_documents(alice.project_id)
    assert len(before) == 4
    collect_blobs(resources, now=lambda: utc_now().replace(year=utc_now().year + 1))
    assert resources.store.list_documents(alice.project_id) == before


def test_a_dropped_checkpoint_gives_its_bytes_back(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    def stored_bytes() -> float:
        shown = alice.get(f"/projects/{alice.project_id}/usage").json()
        figure: float = shown["quotas"]["stored_bytes"]["used"]
        return figure

    job, before = start_job(alice, dataset_id), stored_bytes()
    run(resources, runtime, job)
    headers = {"X-API-Key": runtime.keys[job["id"]][-1]}
    where = f"/api/v1/training-jobs/{job['id']}/checkpoint"
    for epoch, content in ((1, b"12345"), (2, b"123")):
        client.put(where, params={"epoch": epoch}, content=content, headers=headers)
        assert stored_bytes() == before + len(content)
    alice.post(f"/training-jobs/{job['id']}/cancel")
    runtime.put(job["id"], "STOPPED")
    step(resources, runtime)
    assert stored_bytes() == before
