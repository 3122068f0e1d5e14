"""The changes of a job's state, each within one transaction, and only while the job is the caller's."""

from sqlmodel import Session, col, select

from ..auth import keys
from ..auth.permissions import JOB_PERMISSIONS
from ..kernel.clock import utc_now
from . import service
from .models import JobLog, TrainingJob
from .plan import Desired
from .schemas import ENDED, FailureType, JobStatus, RestartPolicy, TrainingError

LOST = {
    FailureType.LOST_CLUSTER: "The Ray cluster that ran the job is gone",
    FailureType.LOST_NODE: "The node that ran the job is gone",
    FailureType.LOST_JOB: "The Ray cluster does not know the job any more",
    FailureType.NOT_STARTED: "Ray found no room for the job in time",
}


def desired_of(job: TrainingJob) -> Desired:
    """Return a job as the plan wants it."""
    return Desired(
        id=job.id,
        status=JobStatus(job.status),
        ray_id=job.ray_id,
        is_claimed=job.cluster_id is not None,
        submitted=job.submitted_at is not None,
        cancel_requested=job.cancel_requested,
        has_result=service.has_result(job),
        message=job.message,
        may_restart=_may_restart(job),
    )


def claim(session: Session, job_id: str, cluster_id: str) -> bool:
    """Take a job out of the queue for a cluster; of several that try, one succeeds."""
    waiting = select(TrainingJob).where(
        TrainingJob.id == job_id, TrainingJob.status == JobStatus.PENDING, col(TrainingJob.cluster_id).is_(None)
    )
    job = session.exec(waiting.with_for_update(skip_locked=True)).one_or_none()
    if job is None:
        return False
    job.cluster_id, job.message = cluster_id, None
    session.add(job)
    return True


def find_claimed(session: Session, job_id: str, cluster_id: str) -> TrainingJob | None:
    """Return a job, locked, while it belongs to the cluster and has not ended."""
    job = session.get(TrainingJob, job_id, with_for_update=True)
    if job is None or job.status in ENDED or job.cluster_id != cluster_id:
        return None
    return job


def make_key(session: Session, job: TrainingJob) -> str:
    """Make a key for the job; an earlier one lives on, for the job that holds it may have arrived after all."""
    _, secret = keys.create_key(
        session,
        name=f"training job {job.id}",
        project_id=job.project_id,
        permissions=sorted(JOB_PERMISSIONS),
        created_by=job.user_id,
        job_id=job.id,
    )
    return secret


def note(session: Session, job: TrainingJob, status: JobStatus, message: str | None) -> None:
    """Write down that Ray runs the job, or what the job waits for there."""
    job.status, job.message = status, message
    if status is JobStatus.RUNNING:
        job.started_at = job.started_at or utc_now()
    session.add(job)


def end(session: Session, job: TrainingJob, status: JobStatus, error: TrainingError | None = None) -> None:
    """Write down how a job that was in Ray ended."""
    job.started_at = job.started_at or job.submitted_at
    service.end_job(session, job, status=status, error=error)


def lose(session: Session, job: TrainingJob, failure: FailureType) -> None:
    """Decide what becomes of a job whose cluster or node is gone, by its own policy."""
    if job.cancel_requested:
        end(session, job, JobStatus.CANCELLED)
    elif _may_restart(job) or failure is FailureType.NOT_STARTED:
        requeue(session, job, failure)
    else:
        end(session, job, JobStatus.FAILED, TrainingError(type=failure, message=f"{LOST[failure]}; start it again."))


def requeue(session: Session, job: TrainingJob, failure: FailureType) -> None:
    """Put a job back into the queue; what may still run of it loses its keys."""
    keys.revoke_job_keys(session, job.id)
    service.give_up_drafts(session, job)
    job.attempt += 1
    job.status, job.message = JobStatus.PENDING, f"{LOST[failure]}; the job starts again."
    job.cluster_id = job.submitted_at = None
    stored = service.log_length(session, job.id)
    said = f"\n{job.message} (attempt {job.attempt + 1})\n"
    session.add(JobLog(job_id=job.id, position=stored, text=said))
    job.log_start = stored + len(said)
    session.add(job)


def _may_restart(job: TrainingJob) -> bool:
    policy = RestartPolicy.of(job.config)
    # A job that never ran loses nothing by another start.
    wanted = policy.on_loss == "resume" or job.status == JobStatus.PENDING
    return wanted and job.attempt < policy.max_restarts
