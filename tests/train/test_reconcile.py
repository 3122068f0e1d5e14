"""The step on a real database with a steered cluster: from the queue to the end."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import Session
from training import SteeredRuntime, read, report, run, start_job, training_body

from factories import Tenant
from raymill.compute.cluster import ClusterUnreachable
from raymill.kernel.clock import utc_now
from raymill.kernel.ids import new_id
from raymill.kernel.resources import Resources
from raymill.tracking import service as tracking
from raymill.train.models import TrainingJob
from raymill.train.reconcile import step
from raymill.train.schemas import JobStatus, SubmittedProgram, TrainingProgress

pytestmark = pytest.mark.integration


@pytest.fixture
def job(alice: Tenant, dataset_id: str) -> dict[str, Any]:
    """Queue a job of alice's."""
    return start_job(alice, dataset_id)


class Died(BaseException):
    """Ends a controller in the middle of a step, as no handler of errors can prevent."""


class DyingRuntime(SteeredRuntime):
    """A cluster whose controller dies right before or right after a job arrives."""

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self._before = before
        self.is_dying = True

    def submit(self, *given: Any, **named: Any) -> None:
        if not self._before:
            super().submit(*given, **named)
        if self.is_dying:
            raise Died


def register_version(client: TestClient, runtime: SteeredRuntime, job: dict[str, Any]) -> str:
    """Register what the job made, as the job itself does."""
    headers = {"X-API-Key": runtime.keys[job["id"]][-1]}
    path = f"/api/v1/models/{job['model_id']}/versions"
    made = client.post(path, json={"source": {"kind": "training_job", "id": job["id"]}}, headers=headers)
    assert made.status_code == 201, made.text
    version_id: str = made.json()["id"]
    return version_id


def test_a_job_runs_reports_and_completes(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    assert (job["status"], job["progress"]["total_epochs"]) == ("pending", 4)
    assert job["message"] == "The job waits in the queue until others have ended."
    step(resources, runtime)
    step(resources, runtime)
    waiting = read(alice, job)
    assert (waiting["status"], waiting["message"]) == ("pending", "It waits for CPUs.")
    runtime.put(job["id"], "RUNNING")
    step(resources, runtime)
    assert (read(alice, job)["status"], read(alice, job)["message"]) == ("running", None)
    epoch = {"epoch": 1, "total_epochs": 4, "metrics": {"loss": 0.5}}
    assert report(client, runtime, job, "progress", epoch) == 204
    assert report(client, runtime, job, "progress", epoch) == 204
    assert read(alice, job)["progress"] == {"percent": 25.0, "epoch": 1, "total_epochs": 4}
    version_id = register_version(client, runtime, job)
    result = {"model_version_id": version_id, "metrics": {"accuracy": 0.9}}
    assert report(client, runtime, job, "result", result) == 204
    runtime.put(job["id"], "SUCCEEDED")
    step(resources, runtime)
    ended = read(alice, job)
    assert (ended["status"], ended["model_version_id"], ended["error"]) == ("completed", version_id, None)
    assert ended["metrics"] == {"loss": 0.5, "accuracy": 0.9}
    assert ended["started_at"] <= ended["completed_at"]
    run = alice.get(f"/runs/{job['run_id']}").json()
    assert (run["status"], run["metrics"]["loss"]) == ("completed", 0.5)
    assert [point["step"] for point in alice.get(f"/runs/{job['run_id']}/metrics").json()["items"]] == [1]


def test_the_key_of_a_job_dies_with_it(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    step(resources, runtime)
    runtime.put(job["id"], "FAILED", exit_code=1)
    step(resources, runtime)
    assert report(client, runtime, job, "progress", {"epoch": 1, "total_epochs": 4}) == 401


def test_the_log_grows_while_the_job_runs(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    seen = []
    step(resources, runtime)
    runtime.put(job["id"], "RUNNING")
    for output in ("", "eins\n", "eins\nzwölf\n", "eins\nzwölf\n\0drei"):
        runtime.output[job["id"]] = output
        step(resources, runtime)
        seen.append(alice.get(f"/training-jobs/{job['id']}/logs").text)
    assert seen[1:] == ["eins\n", "eins\nzwölf\n", "eins\nzwölf\n drei"]
    assert read(alice, job)["logs"] == ["eins", "zwölf", " drei"]


def test_a_failed_job_says_why(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    step(resources, runtime)
    runtime.put(job["id"], "FAILED", exit_code=1)
    runtime.output[job["id"]] = "Traceback\n  File x\nValueError: nothing to learn\n\n"
    step(resources, runtime)
    ended = read(alice, job)
    assert ended["status"] == "failed"
    assert ended["error"] == {"type": "DRIVER_FAILED", "message": "ValueError: nothing to learn"}


def test_a_lost_answer_is_no_second_submission(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    runtime.loses_answers = True
    step(resources, runtime)
    runtime.loses_answers = False
    step(resources, runtime)
    assert len(runtime.keys[job["id"]]) == 1
    assert report(client, runtime, job, "progress", {"epoch": 1, "total_epochs": 4}) == 204


def test_a_controller_that_dies_between_claim_and_submission_starts_the_job_later(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    with pytest.raises(Died):
        step(resources, DyingRuntime(before=True))
    assert read(alice, job)["status"] == "pending"
    step(resources, runtime)
    step(resources, runtime)
    assert runtime.starts == [job["id"]]


def test_a_controller_that_dies_between_submission_and_note_starts_nothing_twice(
    resources: Resources, alice: Tenant, job: dict[str, Any]
) -> None:
    runtime = DyingRuntime(before=False)
    with pytest.raises(Died):
        step(resources, runtime)
    runtime.is_dying = False
    step(resources, runtime)
    runtime.put(job["id"], "RUNNING")
    step(resources, runtime)
    assert (runtime.starts, read(alice, job)["status"]) == ([job["id"]], "running")


def test_a_cluster_that_is_away_changes_nothing(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    runtime.is_reachable = False
    with pytest.raises(ClusterUnreachable):
        step(resources, runtime)
    assert read(alice, job)["status"] == "pending"


def test_a_job_that_ray_refuses_fails_with_rays_words(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    runtime.refusal = "ValueError: no such field"
    step(resources, runtime)
    ended = read(alice, job)
    assert (ended["status"], ended["error"]["type"]) == ("failed", "NOT_STARTED")
    assert "no such field" in ended["error"]["message"]


def test_a_killed_driver_has_a_type_of_its_own(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    run(resources, runtime, job)
    runtime.put(job["id"], "FAILED", exit_code=-9)
    step(resources, runtime)
    error = read(alice, job)["error"]
    assert (error["type"], "signal 9" in error["message"]) == ("DRIVER_KILLED", True)


def test_a_job_whose_log_is_lost_with_its_node_ends_all_the_same(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    run(resources, runtime, job)
    runtime.loses_logs = True
    runtime.put(job["id"], "FAILED", exit_code=1, ended_at=utc_now().timestamp())
    step(resources, runtime)
    assert read(alice, job)["status"] == "running"
    runtime.put(job["id"], "FAILED", exit_code=1, ended_at=(utc_now() - timedelta(minutes=1)).timestamp())
    step(resources, runtime)
    assert read(alice, job)["status"] == "failed"


def test_a_submitted_program_completes_without_a_model(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    program = SubmittedProgram(
        entrypoint="python mine.py",
        runtime_env={"env_vars": {"MINE": "1", "RAYMILL_API_KEY": "x"}, "pip": ["six"]},
        metadata={"team": "blue"},
    )
    with resources.session() as session:
        session.get_one(TrainingJob, job["id"]).cancel_requested = True
        job_id = submit_program(session, session.get_one(TrainingJob, job["id"]), program)
    step(resources, runtime)
    given = runtime.programs[job_id]
    assert (given.entrypoint, given.env_vars, given.runtime_env) == ("python mine.py", {"MINE": "1"}, {"pip": ["six"]})
    runtime.put(job_id, "SUCCEEDED")
    step(resources, runtime)
    ended = alice.get(f"/training-jobs/{job_id}").json()
    assert (ended["status"], ended["model_id"], ended["submission_id"]) == ("completed", None, "mine")


def submit_program(session: Session, like: TrainingJob, program: SubmittedProgram) -> str:
    """Queue a user's own program for the project and user of another job."""
    job_id = new_id("job")
    run = tracking.start_run(
        session, project_id=like.project_id, experiment="jobs", name=job_id, parameters={}, source=None, model_id=None
    )
    row = TrainingJob(
        id=job_id,
        project_id=like.project_id,
        name="mine",
        submission_id="mine",
        status=JobStatus.PENDING,
        config=program.model_dump(mode="json"),
        run_id=run.id,
        progress=TrainingProgress().model_dump(),
        created_by=like.created_by,
        user_id=like.user_id,
        request_id="req_1",
    )
    session.add(row)
    return job_id


def test_a_running_job_is_cancelled_by_stopping_it(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    run(resources, runtime, job)
    asked = alice.post(f"/training-jobs/{job['id']}/cancel")
    assert (asked.status_code, asked.json()["status"]) == (202, "running")
    step(resources, runtime)
    assert runtime.stopped == [job["id"]]
    runtime.put(job["id"], "STOPPED")
    step(resources, runtime)
    ended = read(alice, job)
    assert (ended["status"], ended["error"]) == ("cancelled", None)
    assert alice.get(f"/runs/{job['run_id']}").json()["status"] == "cancelled"


def test_no_more_jobs_run_than_the_setting_allows(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    jobs = [start_job(alice, dataset_id) for _ in range(4)]
    limit = resources.settings.controller.max_concurrent_jobs
    for _ in range(3):
        step(resources, runtime)
    assert runtime.starts == [job["id"] for job in jobs[:limit]]


def test_the_request_id_travels_with_the_job(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    answer = alice.post("/training-jobs", json=training_body(alice, dataset_id), headers={"X-Request-ID": "my-request"})
    step(resources, runtime)
    assert runtime.requests[answer.json()["id"]] == "my-request"


def test_a_cancelled_job_leaves_no_draft_open(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    run(resources, runtime, job)
    register_version(client, runtime, job)
    alice.post(f"/training-jobs/{job['id']}/cancel")
    runtime.put(job["id"], "STOPPED")
    step(resources, runtime)
    version = alice.get(f"/models/{job['model_id']}/versions").json()["items"][0]
    assert version["status"] == "failed"


def test_a_job_that_waits_in_ray_is_cancelled_at_once(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    step(resources, runtime)
    alice.post(f"/training-jobs/{job['id']}/cancel")
    step(resources, runtime)
    assert (runtime.stopped, read(alice, job)["status"]) == ([job["id"]], "cancelled")
    runtime.put(job["id"], "RUNNING")
    step(resources, runtime)
    assert runtime.stopped == [job["id"], job["id"]]


def test_a_deleted_job_leaves_its_model_linked_to_the_data_alone(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    run(resources, runtime, job)
    version_id = register_version(client, runtime, job)
    assert report(client, runtime, job, "result", {"model_version_id": version_id}) == 204
    runtime.put(job["id"], "SUCCEEDED")
    step(resources, runtime)
    assert alice.delete(f"/training-jobs/{job['id']}").status_code == 204
    version = alice.get(f"/models/{job['model_id']}/versions").json()["items"][0]
    assert [(edge["source_kind"], edge["target_id"]) for edge in version["lineage"]] == [
        ("dataset_version", version_id)
    ]
