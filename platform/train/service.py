"""The rules of training jobs."""

from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from ..auth import keys
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..data import service as data
from ..data.errors import DatasetNotFound
from ..kernel.clock import utc_now
from ..kernel.ids import new_id
from ..kernel.pagination import Page, PageQuery, paginate
from ..kernel.resources import Resources
from ..kernel.settings import Settings
from ..kernel.telemetry import current_request_id
from ..projects.service import authorize, authorize_owned, settings_of, visible
from ..registry import lineage, versions
from ..registry import service as registry
from ..registry.errors import VersionNotFound
from ..registry.schemas import Framework, LineageKind
from ..tracking import service as tracking
from ..tracking.schemas import RunStatus
from . import checkpoints, claims
from .capacity import check_resources
from .environments import shown_config
from .errors import JobEnded, JobNotEnded, JobNotFound, NotThisJob
from .models import JobLog, TrainingJob
from .programs import is_submitted
from .schemas import (
    ENDED,
    JobStatus,
    ProgressReport,
    RestartPolicy,
    ResultReport,
    TrainingConfig,
    TrainingError,
    TrainingJobRead,
    TrainingProgress,
    TrainingStatus,
)
from .trainers import check_parameters, check_table, get_trainer

_LAST_LINES = 200
_QUEUED = "The job waits in the queue until others have ended."


def start_training(
    session: Session, *, principal: Principal, config: TrainingConfig, settings: Settings
) -> TrainingJob:
    """Queue a job, after everything that can be checked without running it was checked.

    Raises:
        ValidationFailed: If trainer, hyperparameters, dataset or resources do not fit; the message names what.
        DatasetNotFound: If the project has no such dataset or version.
        QuotaExceeded: If the project may not run that much more at once.
    """
    for permission in (Permission.JOB_WRITE, Permission.DATASET_READ, Permission.MODEL_WRITE):
        authorize(session, principal, config.project_id, permission)
    check_resources(settings.ray, config.resources)
    trainer = get_trainer(config.trainer, config.framework)
    parameters = check_parameters(trainer, config.hyperparameters).model_dump()
    dataset = data.get_dataset(session, config.dataset.id)
    if dataset.project_id != config.project_id:
        raise DatasetNotFound(config.dataset.id)
    version = data.get_version(session, dataset.id, config.dataset.version)
    described = data.describe_version(version).model_dump(by_alias=True)
    check_table(
        parameters["target"],
        described["schema"]["columns"],
        described["statistics"]["columns"],
        version.row_count,
        trainer.task,
    )
    model = registry.ensure_model(
        session,
        project_id=config.project_id,
        name=config.model.name,
        framework=Framework(trainer.framework),
        created_by=principal.id,
    )
    job_id = new_id("job")
    wanted = config.resources
    claims.claim(
        session,
        defaults=settings.quotas,
        project_id=config.project_id,
        job_id=job_id,
        cpus=wanted.num_workers * wanted.cpus_per_worker,
        gpus=wanted.num_workers * wanted.gpus_per_worker,
    )
    run = tracking.start_run(
        session,
        project_id=config.project_id,
        experiment=config.model.name,
        name=config.name or job_id,
        parameters=parameters,
        source={"kind": "training_job", "id": job_id},
        model_id=model.id,
    )
    pinned = config.model_copy(
        update={
            "hyperparameters": parameters,
            "dataset": config.dataset.model_copy(update={"version": version.version}),
            "restart": _restart_policy(session, config),
        }
    )
    job = TrainingJob(
        id=job_id,
        project_id=config.project_id,
        name=config.name or job_id,
        status=JobStatus.PENDING,
        config=pinned.model_dump(mode="json"),
        dataset_version_id=version.id,
        model_id=model.id,
        run_id=run.id,
        progress=TrainingProgress(total_epochs=parameters["epochs"]).model_dump(),
        created_by=principal.id,
        user_id=principal.user_id,
        request_id=current_request_id(),
    )
    session.add(job)
    session.flush()
    lineage.link(
        session,
        project_id=job.project_id,
        source=("dataset_version", version.id),
        target=("training_job", job.id),
    )
    return job


def get_job(session: Session, *, principal: Principal, job_id: str, permission: Permission) -> TrainingJob:
    """Return a job that the principal holds the permission for.

    Raises:
        JobNotFound: If it does not exist, or not for this principal.
        PermissionDenied: If only this permission is missing.
    """
    return authorize_owned(
        session, principal, session.get(TrainingJob, job_id), permission, missing=JobNotFound(job_id)
    )


def list_training_jobs(
    session: Session, *, principal: Principal, query: PageQuery, project_id: str | None, status: JobStatus | None
) -> Page[TrainingJob]:
    """Return the jobs that the principal may read."""
    filters = [visible(principal, col(TrainingJob.project_id), Permission.JOB_READ)]
    if project_id is not None:
        filters.append(col(TrainingJob.project_id) == project_id)
    if status is not None:
        filters.append(col(TrainingJob.status) == status)
    return paginate(session, TrainingJob, query, *filters)


def stop_training(session: Session, job: TrainingJob) -> TrainingJob:
    """Ask a job to stop; one that waits is cancelled at once.

    Raises:
        JobEnded: If it has ended.
    """
    session.refresh(job, with_for_update=True)
    if job.status in ENDED:
        raise JobEnded(f"The job has ended: it is {job.status}.")
    job.cancel_requested = True
    session.add(job)
    if job.status == JobStatus.PENDING and job.cluster_id is None:
        end_job(session, job, status=JobStatus.CANCELLED)
    return job


def end_job(session: Session, job: TrainingJob, *, status: JobStatus, error: TrainingError | None = None) -> None:
    """Write down how a job ended; its run ends and its keys die with it, and nothing half-made stays open."""
    job.status = status
    job.message = None
    job.error = error.model_dump() if error else None
    job.completed_at = utc_now()
    session.add(job)
    keys.revoke_job_keys(session, job.id)
    claims.give_back(session, job.id)
    give_up_drafts(session, job)
    if status is not JobStatus.FAILED:
        checkpoints.drop(session, job.id)
    tracking.finish_run(session, job.run_id, RunStatus(status))


def give_up_drafts(session: Session, job: TrainingJob) -> None:
    """Give up the model versions that the job began to register and will not finish."""
    if job.model_id is not None:
        reason = f"The training job {job.id} ended before the version was complete."
        versions.fail_drafts_of(
            session, model_id=job.model_id, kind=LineageKind.TRAINING_JOB, source_id=job.id, error=reason
        )


def delete_job(session: Session, job: TrainingJob) -> None:
    """Remove a job that has ended, with its log and checkpoint; what it made stays linked to what it was made from.

    Raises:
        JobNotEnded: If it has not.
    """
    if job.status not in ENDED:
        raise JobNotEnded(f"The job is {job.status}; cancel it first.")
    checkpoints.drop(session, job.id)
    lineage.forget(session, LineageKind.TRAINING_JOB, [job.id])
    if job.dataset_version_id is not None and job.model_version_id is not None:
        lineage.link(
            session,
            project_id=job.project_id,
            source=(LineageKind.DATASET_VERSION, job.dataset_version_id),
            target=(LineageKind.MODEL_VERSION, job.model_version_id),
        )
    session.delete(job)


def report_progress(session: Session, *, principal: Principal, job_id: str, report: ProgressReport) -> None:
    """Take what a running job says after an epoch; an epoch that was told before changes nothing.

    Raises:
        NotThisJob: If somebody else says it.
    """
    job = _own_job(session, principal, job_id)
    if report.epoch <= job.progress["epoch"]:
        return
    job.progress = TrainingProgress(
        percent=round(100 * report.epoch / report.total_epochs, 1),
        epoch=report.epoch,
        total_epochs=report.total_epochs,
    ).model_dump()
    job.metrics = {**job.metrics, **report.metrics}
    session.add(job)
    tracking.log_metrics(session, job.run_id, report.epoch, report.metrics)


def report_result(session: Session, *, principal: Principal, job_id: str, report: ResultReport) -> None:
    """Take what a job says at its end: which model version it made.

    Raises:
        NotThisJob: If somebody else says it.
        VersionNotFound: If the version is not one of the job's model.
    """
    job = _own_job(session, principal, job_id)
    version = versions.get_version_by_id(session, report.model_version_id)
    if version.model_id != job.model_id:
        raise VersionNotFound(f"There is no model version {report.model_version_id}.")
    job.model_version_id = version.id
    job.metrics = {**job.metrics, **report.metrics}
    # A report of the last epoch may have been lost in an outage.
    job.progress = {**job.progress, "percent": 100.0, "epoch": job.progress["total_epochs"]}
    session.add(job)
    lineage.link(
        session, project_id=job.project_id, source=("training_job", job.id), target=("model_version", version.id)
    )


def read_log(session: Session, job_id: str) -> str:
    """Return all that a job has written."""
    pieces = select(JobLog.text).where(JobLog.job_id == job_id).order_by(col(JobLog.position))
    return "".join(session.exec(pieces))


def log_length(session: Session, job_id: str) -> int:
    """Return how many characters of a job's log are stored."""
    ends = select(func.max(col(JobLog.position) + func.length(JobLog.text))).where(JobLog.job_id == job_id)
    return session.exec(ends).one() or 0


def append_log(session: Session, job: TrainingJob, whole: str) -> None:
    """Add to the stored log what is new in the whole output of the job's present attempt."""
    stored = log_length(session, job.id)
    # PostgreSQL stores no NUL characters.
    fresh = whole.replace("\0", " ")[stored - job.log_start :]
    if fresh:
        session.add(JobLog(job_id=job.id, position=stored, text=fresh))
        session.flush()


def read_job(session: Session, job: TrainingJob, *, with_log: bool = True) -> TrainingJobRead:
    """Return a job as users see it."""
    lines = read_log(session, job.id).splitlines()[-_LAST_LINES:] if with_log else []
    return TrainingJobRead(**_described(job), logs=lines)


def read_status(job: TrainingJob) -> TrainingStatus:
    """Return the short form of a job."""
    return TrainingStatus.model_validate(_described(job))


def has_result(job: TrainingJob) -> bool:
    """Tell whether a job whose program ended well has done what it was for."""
    return is_submitted(job.config) or job.model_version_id is not None


def _restart_policy(session: Session, config: TrainingConfig) -> RestartPolicy:
    """Return what the job says of restarts, and for the rest what its project says."""
    defaults = settings_of(session, config.project_id).job_restart.model_dump()
    return RestartPolicy.model_validate(defaults | config.restart.model_dump(exclude_unset=True))


def _described(job: TrainingJob) -> dict[str, Any]:
    is_queued = job.status == JobStatus.PENDING and job.cluster_id is None
    shown = {"config": shown_config(job.config)} | ({"message": job.message or _QUEUED} if is_queued else {})
    return job.model_dump() | shown


def _own_job(session: Session, principal: Principal, job_id: str) -> TrainingJob:
    """Return the job that the principal is.

    Raises:
        NotThisJob: If the principal is somebody else.
    """
    job = get_job(session, principal=principal, job_id=job_id, permission=Permission.JOB_REPORT)
    if principal.job_id != job.id:
        raise NotThisJob("Only the running job itself may report.", details={"permission": Permission.JOB_REPORT.value})
    return job


def authorize_report(resources: Resources, principal: Principal, job_id: str) -> TrainingJob:
    """Return the job that the principal is; holds no session afterwards.

    Raises:
        NotThisJob: If the principal is somebody else.
    """
    with resources.session() as session:
        return _own_job(session, principal, job_id)
