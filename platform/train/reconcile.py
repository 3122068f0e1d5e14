"""From the queue in PostgreSQL to Ray jobs and back: a pure plan, and the step around it.

A job is claimed in one transaction and submitted after it, with no session open. A controller that dies in between
leaves a claimed job that its cluster does not know; the next sweep submits it. The job gets a new key with each
submission; the former one lives on, for the job that holds it may have arrived after all. All of them die with the job.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from sqlmodel import Session, col, select

from ..auth import keys
from ..auth.permissions import JOB_PERMISSIONS
from ..kernel.clock import utc_now
from ..kernel.errors import ExternalServiceError
from ..kernel.resources import Resources
from . import service
from .models import TrainingJob
from .runtime import JobRuntime
from .schemas import FailureType, JobStatus, ResourceRequirements, TrainingError

log = structlog.get_logger("raymill.train")


@dataclass(frozen=True)
class Desired:
    """A job that has not ended, as PostgreSQL has it."""

    id: str
    status: JobStatus
    cluster_id: str | None = None
    submitted: bool = False
    cancel_requested: bool = False
    has_result: bool = False


@dataclass(frozen=True)
class Admit:
    """Claim a waiting job for this cluster and submit it."""

    job_id: str


@dataclass(frozen=True)
class Submit:
    """Submit a job that was claimed and never arrived."""

    job_id: str


@dataclass(frozen=True)
class Stop:
    """Ask the cluster to end a job."""

    job_id: str


@dataclass(frozen=True)
class Follow:
    """Copy what a running job has written."""

    job_id: str


@dataclass(frozen=True)
class End:
    """Write down how a job ended."""

    job_id: str
    status: JobStatus
    failure: FailureType | None = None


Action = Admit | Submit | Stop | Follow | End


def plan(
    desired: Iterable[Desired], observed: Mapping[str, str], *, cluster_id: str, max_concurrent: int
) -> list[Action]:
    """Decide what closes the gap; waiting jobs are admitted first in, first out."""
    actions: list[Action] = []
    waiting: list[str] = []
    running = 0
    for job in desired:
        if job.status is JobStatus.PENDING:
            waiting.append(job.id)
            continue
        decided = _running(job, observed.get(job.id), cluster_id)
        running += not isinstance(decided[-1], End)
        actions += decided
    free = max(max_concurrent - running, 0)
    return [*actions, *(Admit(job_id) for job_id in waiting[:free])]


def _running(job: Desired, state: str | None, cluster_id: str) -> list[Action]:
    if job.cluster_id != cluster_id:
        return [_ended(job, FailureType.LOST_CLUSTER)]
    if state is None:
        if job.submitted:
            return [_ended(job, FailureType.LOST_JOB)]
        return [_ended(job, FailureType.STOPPED) if job.cancel_requested else Submit(job.id)]
    if state == "SUCCEEDED":
        return [End(job.id, JobStatus.COMPLETED) if job.has_result else _ended(job, FailureType.NO_RESULT)]
    if state == "FAILED":
        return [_ended(job, FailureType.DRIVER_FAILED)]
    if state == "STOPPED":
        return [_ended(job, FailureType.STOPPED)]
    return [Stop(job.id), Follow(job.id)] if job.cancel_requested else [Follow(job.id)]


def _ended(job: Desired, failure: FailureType) -> End:
    if job.cancel_requested:
        return End(job.id, JobStatus.CANCELLED)
    return End(job.id, JobStatus.FAILED, failure)


def step(resources: Resources, runtime: JobRuntime) -> None:
    """Look, decide, act; a job whose action fails is left as it is for the next sweep."""
    cluster_id = runtime.cluster_id()
    with resources.session() as session:
        desired = [_desired(job) for job in _unended(session)]
    if not desired:
        return
    limit = resources.settings.controller.max_concurrent_jobs
    for action in plan(desired, runtime.statuses(), cluster_id=cluster_id, max_concurrent=limit):
        try:
            _act(resources, runtime, action, cluster_id)
        except ExternalServiceError as error:
            log.warning("job_action_failed", action=type(action).__name__, job_id=action.job_id, reason=error.message)


def _unended(session: Session) -> list[TrainingJob]:
    living = select(TrainingJob).where(col(TrainingJob.status).in_([JobStatus.PENDING, JobStatus.RUNNING]))
    return list(session.exec(living.order_by(col(TrainingJob.id))))


def _desired(job: TrainingJob) -> Desired:
    return Desired(
        id=job.id,
        status=JobStatus(job.status),
        cluster_id=job.cluster_id,
        submitted=job.submitted_at is not None,
        cancel_requested=job.cancel_requested,
        has_result=job.model_version_id is not None,
    )


def _act(resources: Resources, runtime: JobRuntime, action: Action, cluster_id: str) -> None:
    match action:
        case Admit(job_id):
            if _claim(resources, job_id, cluster_id):
                _submit(resources, runtime, job_id)
        case Submit(job_id):
            _submit(resources, runtime, job_id)
        case Stop(job_id):
            runtime.stop(job_id)
        case Follow(job_id):
            _follow(resources, runtime, job_id)
        case End(job_id, status, failure):
            _end(resources, runtime, job_id, status, failure)


def _claim(resources: Resources, job_id: str, cluster_id: str) -> bool:
    waiting = select(TrainingJob).where(TrainingJob.id == job_id, TrainingJob.status == JobStatus.PENDING)
    with resources.session() as session:
        job = session.exec(waiting.with_for_update(skip_locked=True)).one_or_none()
        if job is None:
            return False
        job.status, job.cluster_id, job.started_at = JobStatus.RUNNING, cluster_id, utc_now()
        session.add(job)
    return True


def _submit(resources: Resources, runtime: JobRuntime, job_id: str) -> None:
    with resources.session() as session:
        job = session.get_one(TrainingJob, job_id)
        _, api_key = keys.create_key(
            session,
            name=f"training job {job_id}",
            project_id=job.project_id,
            permissions=sorted(JOB_PERMISSIONS),
            created_by=job.user_id,
            job_id=job_id,
        )
        needs = ResourceRequirements.model_validate(job.config["resources"])
        request_id = job.request_id
    runtime.submit(job_id, api_key=api_key, resources=needs, request_id=request_id)
    with resources.session() as session:
        job = session.get_one(TrainingJob, job_id)
        job.submitted_at = utc_now()
        session.add(job)
    log.info("job_submitted", job_id=job_id, request_id=request_id)


def _follow(resources: Resources, runtime: JobRuntime, job_id: str) -> None:
    output = runtime.logs(job_id)
    with resources.session() as session:
        service.append_log(session, job_id, output)


def _end(
    resources: Resources, runtime: JobRuntime, job_id: str, status: JobStatus, failure: FailureType | None
) -> None:
    output = "" if failure in {FailureType.LOST_CLUSTER, FailureType.LOST_JOB} else runtime.logs(job_id)
    with resources.session() as session:
        job = session.get(TrainingJob, job_id, with_for_update=True)
        if job is None or job.status in service.ENDED:
            return
        service.append_log(session, job_id, output)
        error = TrainingError(type=failure, message=_message(failure, output)) if failure else None
        service.end_job(session, job, status=status, error=error)
        keys.revoke_job_keys(session, job_id)
    log.info("job_ended", job_id=job_id, status=status, failure=failure)


def _message(failure: FailureType, output: str) -> str:
    if failure is FailureType.LOST_CLUSTER:
        return "The Ray cluster that ran the job is gone; start the job again."
    if failure is FailureType.LOST_JOB:
        return "The Ray cluster does not know the job any more; start it again."
    lines = [line for line in output.splitlines() if line.strip()]
    # The driver's last line is what went wrong; the traceback above it is in the log.
    return lines[-1] if lines else "The job ended without a word."
