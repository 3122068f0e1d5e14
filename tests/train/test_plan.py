"""What the plan decides for each state, and that no job is ever started twice."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymill.compute.jobs import JobState
from raymill.train.plan import (
    Action,
    Admit,
    Desired,
    End,
    Follow,
    Note,
    Restart,
    Stop,
    Submit,
    failure_of,
    plan,
    signal_of,
    strays,
)
from raymill.train.schemas import FailureType, JobStatus

PENDING, RUNNING = JobStatus.PENDING, JobStatus.RUNNING
FAILED = JobStatus.FAILED


def desired(job_id: str = "job_1", status: JobStatus = RUNNING, **changes: Any) -> Desired:
    given: dict[str, Any] = {"ray_id": job_id, "is_claimed": True, "submitted": True}
    return Desired(job_id, status, **given | changes)


def queued(job_id: str) -> Desired:
    return Desired(job_id, PENDING, ray_id=job_id)


def decide(*jobs: Desired, seen: dict[str, str] | None = None, slots: int = 2) -> list[Action]:
    observed = {ray_id: JobState(status, message="said") for ray_id, status in (seen or {}).items()}
    return plan(jobs, observed, max_concurrent=slots)


def test_waiting_jobs_are_admitted_in_order_while_there_is_room() -> None:
    waiting = [queued(f"job_{n}") for n in range(3)]
    assert decide(*waiting) == [Admit("job_0"), Admit("job_1")]
    assert decide(desired("job_9"), *waiting, seen={"job_9": "RUNNING"}) == [Follow("job_9"), Admit("job_0")]


def test_a_job_that_waits_in_ray_takes_a_place() -> None:
    waiting = desired("job_0", PENDING, message="said")
    assert decide(waiting, queued("job_1"), seen={"job_0": "PENDING"}, slots=1) == []


def test_a_job_that_ends_makes_room_at_once() -> None:
    ended = desired("job_0", has_result=True)
    actions = decide(ended, queued("job_1"), seen={"job_0": "SUCCEEDED"}, slots=1)
    assert actions == [End("job_0", JobStatus.COMPLETED), Admit("job_1")]


@pytest.mark.parametrize(
    ("job", "seen", "actions"),
    [
        (desired(status=PENDING), "PENDING", [Note("job_1", PENDING, "said")]),
        (desired(status=PENDING, message="said"), "PENDING", []),
        (desired(status=PENDING), "RUNNING", [Note("job_1", RUNNING), Follow("job_1")]),
        (desired(), "RUNNING", [Follow("job_1")]),
        (desired(submitted=False), None, [Submit("job_1")]),
        (desired(submitted=False), "RUNNING", [Follow("job_1")]),
        (desired(), None, [End("job_1", FAILED, FailureType.LOST_JOB)]),
        (desired(may_restart=True), None, [Restart("job_1", FailureType.LOST_JOB)]),
        (desired(has_result=True), "SUCCEEDED", [End("job_1", JobStatus.COMPLETED)]),
        (desired(), "SUCCEEDED", [End("job_1", FAILED, FailureType.NO_RESULT)]),
        (desired(may_restart=True), "SUCCEEDED", [End("job_1", FAILED, FailureType.NO_RESULT)]),
        (desired(), "FAILED", [End("job_1", FAILED, FailureType.DRIVER_FAILED)]),
        (desired(may_restart=True), "FAILED", [End("job_1", FAILED, FailureType.DRIVER_FAILED)]),
        (desired(), "STOPPED", [End("job_1", FAILED, FailureType.STOPPED)]),
        (desired(cancel_requested=True), "RUNNING", [Stop("job_1"), Follow("job_1")]),
        (desired(cancel_requested=True), "PENDING", [Stop("job_1"), End("job_1", JobStatus.CANCELLED)]),
        (desired(cancel_requested=True), "STOPPED", [End("job_1", JobStatus.CANCELLED)]),
        (desired(cancel_requested=True), "FAILED", [End("job_1", JobStatus.CANCELLED)]),
        (desired(cancel_requested=True, submitted=False), None, [End("job_1", JobStatus.CANCELLED)]),
        (desired(cancel_requested=True, may_restart=True), None, [End("job_1", JobStatus.CANCELLED)]),
    ],
)
def test_each_state_has_its_actions(job: Desired, seen: str | None, actions: list[Action]) -> None:
    assert decide(job, seen={"job_1": seen} if seen else {}) == actions


def test_a_job_is_looked_for_under_its_present_attempt() -> None:
    again = desired(ray_id="job_1-1")
    assert decide(again, seen={"job_1": "FAILED", "job_1-1": "RUNNING"}) == [Follow("job_1")]


@pytest.mark.parametrize(
    ("state", "failure", "signal"),
    [
        (JobState("FAILED", exit_code=1), FailureType.DRIVER_FAILED, None),
        (JobState("FAILED", exit_code=-9), FailureType.DRIVER_KILLED, 9),
        (JobState("FAILED", exit_code=137), FailureType.DRIVER_KILLED, 9),
        (JobState("FAILED", error_type="JOB_SUPERVISOR_ACTOR_DIED"), FailureType.LOST_NODE, None),
        (JobState("FAILED", error_type="RUNTIME_ENV_SETUP_FAILURE"), FailureType.ENVIRONMENT_FAILED, None),
        (JobState("FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT"), FailureType.NOT_STARTED, None),
        (JobState("FAILED", error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=2), FailureType.DRIVER_FAILED, None),
    ],
)
def test_each_failure_has_its_type(state: JobState, failure: FailureType, signal: int | None) -> None:
    assert (failure_of(state), signal_of(state)) == (failure, signal)


def test_what_runs_unwanted_is_a_stray() -> None:
    observed = {"job_1": JobState("RUNNING"), "job_2": JobState("PENDING"), "job_3": JobState("SUCCEEDED")}
    assert strays([desired("job_1")], observed) == {"job_2"}


EVENTS = st.lists(
    st.sampled_from(["sweep", "sweep-loses-answer", "sweep-dies-before", "advance", "cancel", "lose-cluster"]),
    max_size=40,
)


@given(EVENTS, st.integers(1, 3))
def test_no_attempt_is_ever_submitted_twice(events: list[str], slots: int) -> None:
    jobs = {f"job_{n}": queued(f"job_{n}") for n in range(4)}
    seen, submissions = dict[str, JobState](), list[str]()
    following = {"PENDING": "RUNNING", "RUNNING": "SUCCEEDED"}
    for event in events:
        if event == "advance":
            seen = {ray_id: JobState(following.get(state.status, state.status)) for ray_id, state in seen.items()}
        elif event == "cancel":
            jobs = {job_id: replace(job, cancel_requested=True) for job_id, job in jobs.items()}
        elif event == "lose-cluster":
            seen = {}
            jobs = {job_id: requeued(job) if job.is_claimed else job for job_id, job in jobs.items()}
        else:
            for action in plan(list(jobs.values()), seen, max_concurrent=slots):
                apply(action, jobs, seen, submissions, event)
        assert sum(job.is_claimed for job in jobs.values()) <= slots
    assert len(submissions) == len(set(submissions))


def requeued(job: Desired) -> Desired:
    return replace(queued(job.id), ray_id=f"{job.ray_id}-again")


def apply(
    action: Action, jobs: dict[str, Desired], seen: dict[str, JobState], submissions: list[str], event: str
) -> None:
    """Do what the step does, with the accidents that the event names."""
    job_id = action.job_id
    job = jobs.get(job_id)
    assert job is not None
    if isinstance(action, Admit):
        jobs[job_id] = job = replace(job, is_claimed=True)
    if isinstance(action, Admit | Submit) and event != "sweep-dies-before":
        submissions.append(job.ray_id)
        seen[job.ray_id] = JobState("PENDING")
        jobs[job_id] = replace(job, submitted=event == "sweep")
    if isinstance(action, Note):
        jobs[job_id] = replace(job, status=action.status, message=action.message)
    if isinstance(action, Stop):
        seen[job.ray_id] = JobState("STOPPED")
    if isinstance(action, End):
        del jobs[job_id]
