"""What becomes of jobs whose cluster or node is gone, on a real database with steered clusters."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from training import SteeredRuntime, read, report, run, start_job

from factories import Tenant
from raymill.kernel.resources import Resources
from raymill.train.reconcile import recover, step

pytestmark = pytest.mark.integration


@pytest.fixture
def job(alice: Tenant, dataset_id: str) -> dict[str, Any]:
    """Queue a job of alice's."""
    return start_job(alice, dataset_id)


def test_the_jobs_of_a_lost_cluster_fail_unless_they_want_to_resume(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    fails = start_job(alice, dataset_id)
    resumes = start_job(alice, dataset_id, restart={"on_loss": "resume", "max_restarts": 1})
    queued = start_job(alice, dataset_id)
    for job in (fails, resumes):
        runtime.output[job["id"]] = "half a"
        run(resources, runtime, job)
    recover(resources, lambda _: ["cluster-1"])
    assert {read(alice, job)["status"] for job in (fails, resumes)} == {"running"}

    recover(resources, lambda _: ["cluster-2"])
    lost = read(alice, fails)
    assert (lost["status"], lost["error"]["type"], lost["logs"]) == ("failed", "LOST_CLUSTER", ["half a"])
    waiting = read(alice, resumes)
    assert (waiting["status"], waiting["attempt"]) == ("pending", 1)
    assert report(client, runtime, resumes, "progress", {"epoch": 1, "total_epochs": 4}) == 401
    assert read(alice, queued)["attempt"] == 0

    second = SteeredRuntime("cluster-2")
    step(resources, second)
    again = f"{resumes['id']}-1"
    assert second.starts == [again, queued["id"]]
    second.output[again] = "the rest"
    second.put(again, "RUNNING")
    step(resources, second)
    assert alice.get(f"/training-jobs/{resumes['id']}/logs").text == (
        "half a\nThe Ray cluster that ran the job is gone; the job starts again. (attempt 2)\nthe rest"
    )
    recover(resources, lambda _: ["cluster-3"])
    assert read(alice, resumes)["error"]["type"] == "LOST_CLUSTER"


def test_a_job_that_never_ran_survives_its_cluster(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    step(resources, runtime)
    recover(resources, lambda _: [])
    assert (read(alice, job)["status"], read(alice, job)["error"]) == ("pending", None)


def test_a_controller_leaves_the_jobs_of_another_living_cluster_alone(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    run(resources, runtime, job)
    step(resources, SteeredRuntime("cluster-2"))
    assert read(alice, job)["status"] == "running"


def test_a_cluster_that_comes_back_is_told_to_stop_what_others_took_over(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    run(resources, runtime, job)
    runtime.put("job_somebody-elses", "RUNNING")
    recover(resources, lambda _: [])
    step(resources, runtime)
    assert runtime.stopped == [job["id"]]


def test_the_loss_of_the_drivers_node_is_a_loss(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    job = start_job(alice, dataset_id, restart={"on_loss": "resume"})
    run(resources, runtime, job)
    runtime.put(job["id"], "FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED")
    for _ in range(2):
        step(resources, runtime)
    assert runtime.starts == [job["id"], f"{job['id']}-1"]


def test_a_job_that_found_no_room_in_ray_waits_on(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    job = start_job(alice, dataset_id, restart={"max_restarts": 0})
    step(resources, runtime)
    runtime.put(job["id"], "FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT")
    for _ in range(2):
        step(resources, runtime)
    assert (read(alice, job)["status"], runtime.starts) == ("pending", [job["id"], f"{job['id']}-1"])
