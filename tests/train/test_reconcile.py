"""The plan by itself, and the step on a real database with a steered cluster."""

from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from training import SteeredRuntime, start_job

from factories import Tenant
from raymill.compute.cluster import ClusterUnreachable
from raymill.kernel.resources import Resources
from raymill.train.reconcile import Action, Admit, Desired, End, Follow, Stop, Submit, plan, step
from raymill.train.schemas import FailureType, JobStatus

PENDING, RUNNING = JobStatus.PENDING, JobStatus.RUNNING
HERE = "cluster-1"


def desired(job_id: str = "job_1", status: JobStatus = RUNNING, **changes: Any) -> Desired:
    claimed: dict[str, Any] = {} if status is PENDING else {"cluster_id": HERE, "submitted": True}
    return Desired(job_id, status, **claimed | changes)


def decide(*jobs: Desired, seen: dict[str, str] | None = None, slots: int = 2) -> list[Action]:
    return plan(jobs, seen or {}, cluster_id=HERE, max_concurrent=slots)


def test_waiting_jobs_are_admitted_in_order_while_there_is_room() -> None:
    waiting = [desired(f"job_{n}", PENDING) for n in range(3)]
    assert decide(*waiting) == [Admit("job_0"), Admit("job_1")]
    assert decide(desired("job_9"), *waiting, seen={"job_9": "RUNNING"}) == [Follow("job_9"), Admit("job_0")]


def test_a_job_that_ends_makes_room_at_once() -> None:
    ended = desired("job_0", has_result=True)
    actions = decide(ended, desired("job_1", PENDING), seen={"job_0": "SUCCEEDED"}, slots=1)
    assert actions == [End("job_0", JobStatus.COMPLETED), Admit("job_1")]


@pytest.mark.parametrize(
    ("job", "seen", "action"),
    [
        (desired(), "PENDING", Follow("job_1")),
        (desired(), "RUNNING", Follow("job_1")),
        (desired(submitted=False), None, Submit("job_1")),
        (desired(submitted=False), "PENDING", Follow("job_1")),
        (desired(), None, End("job_1", JobStatus.FAILED, FailureType.LOST_JOB)),
        (desired(cluster_id="gone"), None, End("job_1", JobStatus.FAILED, FailureType.LOST_CLUSTER)),
        (desired(has_result=True), "SUCCEEDED", End("job_1", JobStatus.COMPLETED)),
        (desired(), "SUCCEEDED", End("job_1", JobStatus.FAILED, FailureType.NO_RESULT)),
        (desired(), "FAILED", End("job_1", JobStatus.FAILED, FailureType.DRIVER_FAILED)),
        (desired(), "STOPPED", End("job_1", JobStatus.FAILED, FailureType.STOPPED)),
        (desired(cancel_requested=True), "STOPPED", End("job_1", JobStatus.CANCELLED)),
        (desired(cancel_requested=True), "FAILED", End("job_1", JobStatus.CANCELLED)),
        (desired(cancel_requested=True, submitted=False), None, End("job_1", JobStatus.CANCELLED)),
        (desired(cancel_requested=True, cluster_id="gone"), None, End("job_1", JobStatus.CANCELLED)),
    ],
)
def test_each_state_has_its_action(job: Desired, seen: str | None, action: Action) -> None:
    assert decide(job, seen={"job_1": seen} if seen else {}) == [action]


def test_a_cancelled_job_is_stopped_and_followed_until_it_ends() -> None:
    assert decide(desired(cancel_requested=True), seen={"job_1": "RUNNING"}) == [Stop("job_1"), Follow("job_1")]


EVENTS = st.lists(
    st.sampled_from(["sweep", "sweep-loses-answer", "sweep-dies-before", "advance", "cancel", "new-cluster"]),
    max_size=40,
)


@given(EVENTS, st.integers(1, 3))
def test_no_job_is_ever_submitted_twice_to_a_cluster(events: list[str], slots: int) -> None:
    jobs = {f"job_{n}": desired(f"job_{n}", PENDING) for n in range(4)}
    cluster, seen, submissions = 1, dict[str, str](), list[tuple[str, str]]()
    following = {"PENDING": "RUNNING", "RUNNING": "SUCCEEDED"}
    for event in events:
        name = f"cluster-{cluster}"
        if event == "advance":
            seen = {job_id: following.get(state, state) for job_id, state in seen.items()}
        elif event == "cancel":
            jobs = {job_id: replace(job, cancel_requested=True) for job_id, job in jobs.items()}
        elif event == "new-cluster":
            cluster, seen = cluster + 1, {}
        else:
            for action in plan(list(jobs.values()), seen, cluster_id=name, max_concurrent=slots):
                apply(action, jobs, seen, submissions, name, event)
        live = [job for job in jobs.values() if job.status is RUNNING and job.cluster_id == name]
        assert len(live) <= slots
    assert len(submissions) == len(set(submissions))


def apply(
    action: Action,
    jobs: dict[str, Desired],
    seen: dict[str, str],
    submissions: list[tuple[str, str]],
    cluster: str,
    event: str,
) -> None:
    """Do what the step does, with the accidents that the event names."""
    job_id = action.job_id
    if isinstance(action, Admit):
        jobs[job_id] = replace(jobs[job_id], status=RUNNING, cluster_id=cluster)
    if isinstance(action, Admit | Submit) and event != "sweep-dies-before":
        submissions.append((job_id, cluster))
        seen[job_id] = "PENDING"
        jobs[job_id] = replace(jobs[job_id], submitted=event == "sweep")
    if isinstance(action, Stop):
        seen[job_id] = "STOPPED"
    if isinstance(action, End):
        del jobs[job_id]


@pytest.fixture
def job(alice: Tenant, dataset_id: str) -> dict[str, Any]:
    """Queue a job of alice's."""
    return start_job(alice, dataset_id)


def read(tenant: Tenant, job: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = tenant.get(f"/training-jobs/{job['id']}").json()
    return answer


def report(client: TestClient, runtime: SteeredRuntime, job: dict[str, Any], what: str, body: dict[str, Any]) -> int:
    headers = {"X-API-Key": runtime.keys[job["id"]][-1]}
    return client.post(f"/api/v1/training-jobs/{job['id']}/{what}", json=body, headers=headers).status_code


def register_version(client: TestClient, runtime: SteeredRuntime, job: dict[str, Any]) -> str:
    """Register what the job made, as the job itself does."""
    headers = {"X-API-Key": runtime.keys[job["id"]][-1]}
    path = f"/api/v1/models/{job['model_id']}/versions"
    made = client.post(path, json={"source": {"kind": "training_job", "id": job["id"]}}, headers=headers)
    assert made.status_code == 201, made.text
    version_id: str = made.json()["id"]
    return version_id


@pytest.mark.integration
def test_a_job_runs_reports_and_completes(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    assert (job["status"], job["progress"]["total_epochs"]) == ("pending", 4)
    step(resources, runtime)
    assert read(alice, job)["status"] == "running"
    runtime.states[job["id"]] = "RUNNING"
    epoch = {"epoch": 1, "total_epochs": 4, "metrics": {"loss": 0.5}}
    assert report(client, runtime, job, "progress", epoch) == 204
    assert report(client, runtime, job, "progress", epoch) == 204
    assert read(alice, job)["progress"] == {"percent": 25.0, "epoch": 1, "total_epochs": 4}
    version_id = register_version(client, runtime, job)
    result = {"model_version_id": version_id, "metrics": {"accuracy": 0.9}}
    assert report(client, runtime, job, "result", result) == 204
    runtime.states[job["id"]] = "SUCCEEDED"
    step(resources, runtime)
    ended = read(alice, job)
    assert (ended["status"], ended["model_version_id"], ended["error"]) == ("completed", version_id, None)
    assert ended["metrics"] == {"loss": 0.5, "accuracy": 0.9}
    assert ended["started_at"] <= ended["completed_at"]
    run = alice.get(f"/runs/{job['run_id']}").json()
    assert (run["status"], run["metrics"]["loss"]) == ("completed", 0.5)
    assert [point["step"] for point in alice.get(f"/runs/{job['run_id']}/metrics").json()["items"]] == [1]


@pytest.mark.integration
def test_the_key_of_a_job_dies_with_it(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    step(resources, runtime)
    runtime.states[job["id"]] = "FAILED"
    step(resources, runtime)
    assert report(client, runtime, job, "progress", {"epoch": 1, "total_epochs": 4}) == 401


@pytest.mark.integration
def test_the_log_grows_while_the_job_runs(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    seen = []
    for output in ("", "eins\n", "eins\nzwölf\n", "eins\nzwölf\n\0drei"):
        runtime.output[job["id"]] = output
        step(resources, runtime)
        runtime.states[job["id"]] = "RUNNING"
        seen.append(alice.get(f"/training-jobs/{job['id']}/logs").text)
    assert seen[1:] == ["eins\n", "eins\nzwölf\n", "eins\nzwölf\n drei"]
    assert read(alice, job)["logs"] == ["eins", "zwölf", " drei"]


@pytest.mark.integration
def test_a_failed_job_says_why(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    step(resources, runtime)
    runtime.states[job["id"]] = "FAILED"
    runtime.output[job["id"]] = "Traceback\n  File x\nValueError: nothing to learn\n\n"
    step(resources, runtime)
    ended = read(alice, job)
    assert ended["status"] == "failed"
    assert ended["error"] == {"type": "DRIVER_FAILED", "message": "ValueError: nothing to learn"}


@pytest.mark.integration
def test_a_lost_answer_is_no_second_submission(
    client: TestClient, resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    runtime.loses_answers = True
    step(resources, runtime)
    runtime.loses_answers = False
    step(resources, runtime)
    assert len(runtime.keys[job["id"]]) == 1
    assert report(client, runtime, job, "progress", {"epoch": 1, "total_epochs": 4}) == 204


@pytest.mark.integration
def test_a_claimed_job_that_never_arrived_is_submitted_later(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    runtime.is_reachable = False
    with pytest.raises(ClusterUnreachable):
        step(resources, runtime)
    assert read(alice, job)["status"] == "pending"
    runtime.is_reachable = True
    step(resources, runtime)
    del runtime.states[job["id"]]
    assert read(alice, job)["status"] == "running"


@pytest.mark.integration
def test_a_new_cluster_fails_the_jobs_of_the_former_one(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    runtime.output[job["id"]] = "half a"
    step(resources, runtime)
    runtime.states[job["id"]] = "RUNNING"
    step(resources, runtime)
    step(resources, SteeredRuntime("cluster-2"))
    ended = read(alice, job)
    assert (ended["status"], ended["error"]["type"]) == ("failed", "LOST_CLUSTER")
    assert ended["logs"] == ["half a"]


@pytest.mark.integration
def test_a_running_job_is_cancelled_by_stopping_it(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, job: dict[str, Any]
) -> None:
    step(resources, runtime)
    runtime.states[job["id"]] = "RUNNING"
    asked = alice.post(f"/training-jobs/{job['id']}/cancel")
    assert (asked.status_code, asked.json()["status"]) == (202, "running")
    step(resources, runtime)
    assert runtime.stopped == [job["id"]]
    runtime.states[job["id"]] = "STOPPED"
    step(resources, runtime)
    ended = read(alice, job)
    assert (ended["status"], ended["error"]) == ("cancelled", None)
    assert alice.get(f"/runs/{job['run_id']}").json()["status"] == "cancelled"


@pytest.mark.integration
def test_no_more_jobs_run_than_the_setting_allows(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    jobs = [start_job(alice, dataset_id) for _ in range(4)]
    limit = resources.settings.controller.max_concurrent_jobs
    for _ in range(3):
        step(resources, runtime)
    assert list(runtime.states) == [job["id"] for job in jobs[:limit]]


@pytest.mark.integration
def test_the_request_id_travels_with_the_job(
    resources: Resources, runtime: SteeredRuntime, alice: Tenant, dataset_id: str
) -> None:
    from training import training_body

    answer = alice.post("/training-jobs", json=training_body(alice, dataset_id), headers={"X-Request-ID": "my-request"})
    step(resources, runtime)
    assert runtime.requests[answer.json()["id"]] == "my-request"
