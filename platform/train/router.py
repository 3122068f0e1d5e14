"""Routes of training jobs."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from ..auth.deps import CurrentPrincipal, OncePerKey
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.pagination import Page
from . import service
from .schemas import JobStatus, ProgressReport, ResultReport, TrainingConfig, TrainingJobRead, TrainingStatus

router = APIRouter(prefix="/training-jobs", tags=["train"])

_READ, _WRITE = Permission.JOB_READ, Permission.JOB_WRITE


@router.post("", status_code=202)
def start_training(
    config: TrainingConfig, session: DbSession, principal: CurrentPrincipal, key: OncePerKey, resources: AppResources
) -> TrainingJobRead:
    """Queue a training job."""

    def start() -> TrainingJobRead:
        cluster = resources.settings.ray
        job = service.start_training(session, principal=principal, config=config, cluster=cluster)
        return service.read_job(session, job)

    return key.once(session, config, TrainingJobRead, start)


@router.get("")
def list_training_jobs(
    session: DbSession,
    principal: CurrentPrincipal,
    query: Paging,
    project_id: str | None = None,
    status: JobStatus | None = None,
) -> Page[TrainingJobRead]:
    """List the jobs that the caller may read, without their logs."""
    page = service.list_training_jobs(session, principal=principal, query=query, project_id=project_id, status=status)
    return page.map(lambda job: service.read_job(session, job, with_log=False))


@router.get("/{job_id}")
def get_training_job(job_id: str, session: DbSession, principal: CurrentPrincipal) -> TrainingJobRead:
    """Return one job with the last lines of its log."""
    return service.read_job(session, service.get_job(session, principal=principal, job_id=job_id, permission=_READ))


@router.get("/{job_id}/status")
def get_training_status(job_id: str, session: DbSession, principal: CurrentPrincipal) -> TrainingStatus:
    """Return how far one job is."""
    return service.read_status(service.get_job(session, principal=principal, job_id=job_id, permission=_READ))


@router.get("/{job_id}/logs", response_class=PlainTextResponse)
def get_training_logs(job_id: str, session: DbSession, principal: CurrentPrincipal) -> PlainTextResponse:
    """Return all that one job has written."""
    job = service.get_job(session, principal=principal, job_id=job_id, permission=_READ)
    return PlainTextResponse(service.read_log(session, job.id))


@router.post("/{job_id}/cancel", status_code=202)
def stop_training(job_id: str, session: DbSession, principal: CurrentPrincipal) -> TrainingJobRead:
    """Ask a job to stop."""
    job = service.get_job(session, principal=principal, job_id=job_id, permission=_WRITE)
    return service.read_job(session, service.stop_training(session, job))


@router.delete("/{job_id}", status_code=204)
def delete_training_job(job_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """Remove a job that has ended."""
    service.delete_job(session, service.get_job(session, principal=principal, job_id=job_id, permission=_WRITE))


@router.post("/{job_id}/progress", status_code=204)
def report_progress(job_id: str, report: ProgressReport, session: DbSession, principal: CurrentPrincipal) -> None:
    """Take what the running job says after an epoch."""
    service.report_progress(session, principal=principal, job_id=job_id, report=report)


@router.post("/{job_id}/result", status_code=204)
def report_result(job_id: str, report: ResultReport, session: DbSession, principal: CurrentPrincipal) -> None:
    """Take what the job says at its end."""
    service.report_result(session, principal=principal, job_id=job_id, report=report)
