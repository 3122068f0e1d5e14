"""What closes the gap between the queue in PostgreSQL and the jobs of one Ray cluster: a pure decision."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..compute.cluster import UNFINISHED
from ..compute.jobs import JobState
from .schemas import FailureType, JobStatus

_LOSSES = frozenset({FailureType.LOST_NODE, FailureType.LOST_JOB})
_SHELL_SIGNALS = 128
# Ray gives up on a job that found no room for 15 minutes; ours waits on.
_NO_ROOM = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
_ERRORS = {
    "RUNTIME_ENV_SETUP_FAILURE": FailureType.ENVIRONMENT_FAILED,
    "JOB_SUPERVISOR_ACTOR_DIED": FailureType.LOST_NODE,
    _NO_ROOM: FailureType.NOT_STARTED,
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": FailureType.NOT_STARTED,
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": FailureType.NOT_STARTED,
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": FailureType.NOT_STARTED,
}


@dataclass(frozen=True)
class Desired:
    """A job that waits or belongs to this cluster and has not ended, as PostgreSQL has it.

    Attributes:
        id: The job.
        status: Pending until Ray runs it.
        ray_id: Its present attempt in Ray.
        is_claimed: Whether it left the queue.
        submitted: Whether Ray is known to have it.
        cancel_requested: Whether somebody wants it stopped.
        has_result: Whether it may end well.
        message: What it waits for, as far as was noted.
        may_restart: Whether it starts again when the machine under it is lost.
    """

    id: str
    status: JobStatus
    ray_id: str
    is_claimed: bool = False
    submitted: bool = False
    cancel_requested: bool = False
    has_result: bool = False
    message: str | None = None
    may_restart: bool = False


@dataclass(frozen=True)
class Admit:
    """Claim a waiting job for this cluster and submit it."""

    job_id: str


@dataclass(frozen=True)
class Submit:
    """Submit a job that was claimed and never arrived."""

    job_id: str


@dataclass(frozen=True)
class Note:
    """Write down that Ray runs the job, or what it waits for there."""

    job_id: str
    status: JobStatus
    message: str | None = None


@dataclass(frozen=True)
class Stop:
    """Ask the cluster to end a job."""

    job_id: str


@dataclass(frozen=True)
class Follow:
    """Copy what a running job has written."""

    job_id: str


@dataclass(frozen=True)
class Restart:
    """Put a job whose machine was lost, or that found no room, back into the queue."""

    job_id: str
    failure: FailureType


@dataclass(frozen=True)
class End:
    """Write down how a job ended."""

    job_id: str
    status: JobStatus
    failure: FailureType | None = None


Action = Admit | Submit | Note | Stop | Follow | Restart | End


def plan(desired: Iterable[Desired], observed: Mapping[str, JobState], *, max_concurrent: int) -> list[Action]:
    """Decide what closes the gap; waiting jobs are admitted first in, first out."""
    actions: list[Action] = []
    waiting: list[str] = []
    taken = 0
    for job in desired:
        if not job.is_claimed:
            waiting.append(job.id)
            continue
        decided = _claimed(job, observed.get(job.ray_id))
        taken += not any(isinstance(action, End | Restart) for action in decided)
        actions += decided
    free = max(max_concurrent - taken, 0)
    return [*actions, *(Admit(job_id) for job_id in waiting[:free])]


def strays(desired: Iterable[Desired], observed: Mapping[str, JobState]) -> set[str]:
    """Return what runs in Ray without being wanted there, as far as can be told without another look."""
    wanted = {job.ray_id for job in desired}
    return {ray_id for ray_id, state in observed.items() if state.status in UNFINISHED} - wanted


def failure_of(state: JobState) -> FailureType:
    """Say in our words why Ray calls a job failed."""
    if state.error_type in _ERRORS:
        return _ERRORS[state.error_type]
    return FailureType.DRIVER_KILLED if signal_of(state) else FailureType.DRIVER_FAILED


def signal_of(state: JobState) -> int | None:
    """Return the signal that ended the driver, if one did; a shell in between reports it as 128 and more."""
    code = state.exit_code or 0
    if code < 0:
        return -code
    return code - _SHELL_SIGNALS if code > _SHELL_SIGNALS else None


def _claimed(job: Desired, state: JobState | None) -> list[Action]:
    if state is None:
        if job.submitted:
            return [_ended(job, FailureType.LOST_JOB)]
        return [_ended(job, FailureType.STOPPED) if job.cancel_requested else Submit(job.id)]
    if state.status == "PENDING":
        return _waiting_in_ray(job, state)
    if state.status == "RUNNING":
        return _running(job)
    if state.status == "SUCCEEDED":
        return [End(job.id, JobStatus.COMPLETED) if job.has_result else _ended(job, FailureType.NO_RESULT)]
    if state.error_type == _NO_ROOM and not job.cancel_requested:
        return [Restart(job.id, FailureType.NOT_STARTED)]
    return [_ended(job, FailureType.STOPPED if state.status == "STOPPED" else failure_of(state))]


def _waiting_in_ray(job: Desired, state: JobState) -> list[Action]:
    if job.cancel_requested:
        # Ray stops it only once it runs; should it come to that, it finds its key dead and is stopped as a stray.
        return [Stop(job.id), End(job.id, JobStatus.CANCELLED)]
    return [] if job.message == state.message else [Note(job.id, JobStatus.PENDING, state.message)]


def _running(job: Desired) -> list[Action]:
    noted: list[Action] = [] if job.status is JobStatus.RUNNING else [Note(job.id, JobStatus.RUNNING)]
    stopped: list[Action] = [Stop(job.id)] if job.cancel_requested else []
    return [*noted, *stopped, Follow(job.id)]


def _ended(job: Desired, failure: FailureType) -> Action:
    if job.cancel_requested:
        return End(job.id, JobStatus.CANCELLED)
    if job.may_restart and failure in _LOSSES:
        return Restart(job.id, failure)
    return End(job.id, JobStatus.FAILED, failure)
