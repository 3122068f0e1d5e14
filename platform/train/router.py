"""Routes of training jobs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool

from ..auth.deps import CurrentPrincipal, DetachedPrincipal, OncePerKey
from ..auth.needs import Caller, needs, shows
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.disk import require_room
from ..kernel.downloads import blob_answer, blob_answers
from ..kernel.pagination import Page
from ..kernel.uploads import BINARY_BODY, received
from . import checkpoints, service
from .schemas import (
    CheckpointRead,
    JobStatus,
    ProgressReport,
    ResultReport,
    TrainingConfig,
    TrainingJobRead,
    TrainingStatus,
)

router = APIRouter(prefix="/training-jobs", tags=["train"])

_READ, _WRITE = Permission.JOB_READ, Permission.JOB_WRITE


@router.post("", status_code=202)
@needs(Permission.JOB_WRITE, Permission.DATASET_READ, Permission.MODEL_WRITE)
def start_training(
    config: TrainingConfig, session: DbSession, principal: CurrentPrincipal, key: OncePerKey, resources: AppResources
) -> TrainingJobRead:
    """Queue a training job."""
    require_room(resources.settings.home)

    def start() -> TrainingJobRead:
        job = service.start_training(session, principal=principal, config=config, settings=resources.settings)
        return service.read_job(session, job)

    return key.once(session, config, TrainingJobRead, start)


@router.get("")
@shows(Permission.JOB_READ)
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
@needs(Permission.JOB_READ)
def get_training_job(job_id: str, session: DbSession, principal: CurrentPrincipal) -> TrainingJobRead:
    """Return one job with the last lines of its log."""
    return service.read_job(session, service.get_job(session, principal=principal, job_id=job_id, permission=_READ))


@router.get("/{job_id}/status")
@needs(Permission.JOB_READ)
def get_training_status(job_id: str, session: DbSession, principal: CurrentPrincipal) -> TrainingStatus:
    """Return how far one job is."""
    return service.read_status(service.get_job(session, principal=principal, job_id=job_id, permission=_READ))


@router.get("/{job_id}/logs", response_class=PlainTextResponse)
@needs(Permission.JOB_READ)
def get_training_logs(job_id: str, session: DbSession, principal: CurrentPrincipal) -> PlainTextResponse:
    """Return all that one job has written."""
    job = service.get_job(session, principal=principal, job_id=job_id, permission=_READ)
    return PlainTextResponse(service.read_log(session, job.id))


@router.post("/{job_id}/cancel", status_code=202)
@needs(Permission.JOB_WRITE)
def stop_training(job_id: str, session: DbSession, principal: CurrentPrincipal) -> TrainingJobRead:
    """Ask a job to stop."""
    job = service.get_job(session, principal=principal, job_id=job_id, permission=_WRITE)
    return service.read_job(session, service.stop_training(session, job))


@router.delete("/{job_id}", status_code=204)
@needs(Permission.JOB_WRITE)
def delete_training_job(job_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """Remove a job that has ended."""
    service.delete_job(session, service.get_job(session, principal=principal, job_id=job_id, permission=_WRITE))


@router.post("/{job_id}/progress", status_code=204)
@needs(Permission.JOB_REPORT, caller=Caller.JOB)
def report_progress(job_id: str, report: ProgressReport, session: DbSession, principal: CurrentPrincipal) -> None:
    """Take what the running job says after an epoch."""
    service.report_progress(session, principal=principal, job_id=job_id, report=report)


@router.post("/{job_id}/result", status_code=204)
@needs(Permission.JOB_REPORT, caller=Caller.JOB)
def report_result(job_id: str, report: ResultReport, session: DbSession, principal: CurrentPrincipal) -> None:
    """Take what the job says at its end."""
    service.report_result(session, principal=principal, job_id=job_id, report=report)


@router.put("/{job_id}/checkpoint", openapi_extra=BINARY_BODY)
@needs(Permission.JOB_REPORT, caller=Caller.JOB)
async def put_checkpoint(
    job_id: str,
    epoch: Annotated[int, Query(ge=0)],
    request: Request,
    principal: DetachedPrincipal,
    resources: AppResources,
) -> CheckpointRead:
    """Store the body as the state that the running job can go on from, in place of the former one."""
    job = await run_in_threadpool(service.authorize_report, resources, principal, job_id)
    async with received(request.stream(), resources.settings) as upload:
        return await run_in_threadpool(checkpoints.store, resources, job=job, upload=upload, epoch=epoch)


@router.head("/{job_id}/checkpoint", include_in_schema=False)
@router.get("/{job_id}/checkpoint", response_class=Response, responses=blob_answers())
@needs(Permission.JOB_READ)
def get_checkpoint(
    job_id: str, request: Request, session: DbSession, principal: CurrentPrincipal, resources: AppResources
) -> Response:
    """Send the newest checkpoint of a job, whole or one range of it."""
    job = service.get_job(session, principal=principal, job_id=job_id, permission=_READ)
    checkpoint = checkpoints.get_checkpoint(session, job)
    return blob_answer(
        resources.store,
        checkpoints.blob_of(checkpoint),
        method=request.method,
        headers=request.headers,
        filename=f"{job.id}-{checkpoint.epoch}.checkpoint",
    )
