"""The jobs door: Ray's Jobs API below ``/api/v1/jobs``, for Ray's own client, limited to one project.

Ray's client takes ``<platform>/api/v1/jobs`` for the address of a dashboard and appends paths of the dashboard; only
those of jobs and packages exist here. What happens behind them is the platform's own queue.
"""

from pathlib import Path

from fastapi import APIRouter, Request, Response, WebSocket
from starlette.concurrency import run_in_threadpool

from ..auth.deps import CurrentPrincipal, DetachedPrincipal
from ..auth.needs import Caller, needs, open_to
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import AppResources, DbSession
from ..kernel.disk import require_room
from ..kernel.errors import NotFound
from ..kernel.resources import Resources
from ..kernel.uploads import received
from ..projects.blobs import keep_file
from ..train import service, submissions
from ..train.environments import check_package_name
from ..train.errors import PackageNotFound
from ..train.schemas import ProgramCreate
from .ray_jobs_documents import (
    DeleteResponse,
    JobDetails,
    LogsResponse,
    StopResponse,
    SubmitResponse,
    VersionResponse,
    job_details,
)
from .ray_jobs_project import JobsReader, JobsWriter, ProjectHeader, project_id
from .ray_jobs_tail import follow

# It is Ray's interface and not ours, so the platform's own description leaves it out.
router = APIRouter(prefix="/jobs", include_in_schema=False)


class ClosedRayInterface(NotFound):
    """Raised when a client asks for a part of Ray's interface that is for operators."""


@router.get("/api/version")
@open_to(Caller.ACCOUNT)
def get_ray_version(principal: CurrentPrincipal) -> VersionResponse:
    """Say which version of Ray this is."""
    return VersionResponse()


@router.post("/api/jobs/")
@needs(*submissions.NEEDED)
def submit_ray_job(
    program: ProgramCreate,
    session: DbSession,
    principal: CurrentPrincipal,
    project: JobsWriter,
    resources: AppResources,
) -> SubmitResponse:
    """Queue a program as a job."""
    require_room(resources.settings.home)
    job = submissions.submit_program(
        session, principal=principal, project_id=project, program=program, settings=resources.settings
    )
    name = submissions.read_program(job).submission_id
    return SubmitResponse(job_id=name, submission_id=name)


@router.get("/api/jobs/")
def list_ray_jobs(session: DbSession, project: JobsReader) -> list[JobDetails]:
    """List the project's jobs, newest first."""
    jobs = submissions.list_programs(session, project_id=project)
    return [job_details(submissions.read_program(job)) for job in jobs]


@router.get("/api/jobs/{name}")
def get_ray_job(name: str, session: DbSession, project: JobsReader) -> JobDetails:
    """Return one job."""
    return job_details(submissions.read_program(submissions.get_program(session, project_id=project, name=name)))


@router.delete("/api/jobs/{name}")
def delete_ray_job(name: str, session: DbSession, project: JobsWriter) -> DeleteResponse:
    """Remove a job that has ended."""
    service.delete_job(session, submissions.get_program(session, project_id=project, name=name))
    return DeleteResponse(deleted=True)


@router.post("/api/jobs/{name}/stop")
def stop_ray_job(name: str, session: DbSession, project: JobsWriter) -> StopResponse:
    """Ask a job to stop; one that has ended is left as it is."""
    job = submissions.get_program(session, project_id=project, name=name)
    if submissions.has_ended(job):
        return StopResponse(stopped=False)
    service.stop_training(session, job)
    return StopResponse(stopped=True)


@router.get("/api/jobs/{name}/logs")
def get_ray_job_logs(name: str, session: DbSession, project: JobsReader) -> LogsResponse:
    """Return all that a job has written."""
    job = submissions.get_program(session, project_id=project, name=name)
    return LogsResponse(logs=service.read_log(session, job.id))


@router.websocket("/api/jobs/{name}/logs/tail")
@needs(Permission.JOB_READ)
async def tail_ray_job_logs(websocket: WebSocket, name: str) -> None:
    """Send what a job writes until it has ended."""
    await follow(websocket, name)


@router.get("/api/packages/gcs/{name}")
def find_ray_package(name: str, session: DbSession, project: JobsWriter) -> Response:
    """Say whether a package need not be uploaded."""
    if submissions.find_package(session, project_id=project, name=name) is None:
        raise PackageNotFound(name)
    return Response()


@router.put("/api/packages/gcs/{name}")
@needs(Permission.JOB_WRITE)
async def upload_ray_package(
    name: str, request: Request, principal: DetachedPrincipal, resources: AppResources, named: ProjectHeader = None
) -> Response:
    """Store the body, an archive, as a package of the project."""
    check_package_name(name)
    project = await run_in_threadpool(_writable_project, resources, principal, named)
    async with received(request.stream(), resources.settings, at_most=submissions.MAX_PACKAGE_BYTES) as upload:
        await run_in_threadpool(_add_package, resources, project, name, upload)
    return Response()


@router.api_route("/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@open_to(Caller.ACCOUNT)
def refuse_ray_interface(rest: str, principal: CurrentPrincipal) -> None:
    """Refuse the rest of Ray's interface."""
    raise ClosedRayInterface(
        f"There is no {rest!r} at this door: of Ray's interface it offers jobs and packages alone."
    )


def _writable_project(resources: Resources, principal: Principal, named: str | None) -> str:
    with resources.session() as session:
        return project_id(session, principal, named, Permission.JOB_WRITE)


def _add_package(resources: Resources, project: str, name: str, upload: Path) -> None:
    blob = keep_file(resources, project_id=project, path=upload)
    with resources.session() as session:
        submissions.add_package(session, project_id=project, name=name, blob=blob)
