"""The rules of submitted programs: jobs that run a user's own command, and the packages that they need."""

from sqlalchemy import func, or_, true
from sqlmodel import Session, col, select

from ..auth.permissions import JOB_PERMISSIONS, Permission
from ..auth.schemas import Principal
from ..kernel.db import unless_refused
from ..kernel.ids import new_id
from ..kernel.settings import Settings
from ..kernel.storage import Blob
from ..kernel.telemetry import current_request_id
from ..projects.secrets import check_references
from ..projects.service import authorize
from ..tracking import service as tracking
from . import claims
from .capacity import check_resources
from .environments import check_environment, package_name, package_uris, redacted, stored_uri, with_uris
from .errors import BadSubmission, JobNotFound, PackageNotFound, SubmissionIdTaken
from .models import JobCheckpoint, JobLog, JobPackage, TrainingJob
from .programs import program_of
from .schemas import (
    ENDED,
    EntrypointResources,
    JobStatus,
    ProgramCreate,
    ProgramRead,
    ResourceRequirements,
    SubmittedProgram,
    TrainingProgress,
)

EXPERIMENT = "jobs"
# A share that lets a program wait for its own tasks on a cluster of two CPUs.
DEFAULT_CPUS = 0.1
LONGEST_LIST = 1000
# Ray's dashboard takes no larger body.
MAX_PACKAGE_BYTES = 100 * 2**20
_NAME = "job_name"
# Whoever submits a program may do all that the program's own key may.
NEEDED = (Permission.JOB_WRITE, *sorted(JOB_PERMISSIONS - {Permission.JOB_REPORT}))


def submit_program(
    session: Session, *, principal: Principal, project_id: str, program: ProgramCreate, settings: Settings
) -> TrainingJob:
    """Queue a user's command as a job with a run of its own in the experiment ``jobs``.

    Raises:
        EnvironmentRefused: If the runtime environment holds what a project may not set.
        SecretNotFound: If it refers to a secret that the project does not have.
        PackageNotFound: If it names a package that was not uploaded.
        BadSubmission: If it asks for a certain node or takes a name of the platform's.
        ResourcesExceedCluster: If it would wait for ever.
        QuotaExceeded: If the project may not run that much more at once.
        SubmissionIdTaken: If the project has a job of that submission id.
    """
    for permission in NEEDED:
        authorize(session, principal, project_id, permission)
    config = _pinned(session, project_id, program)
    check_resources(settings.ray, ResourceRequirements(cpus_per_worker=config.resources.entrypoint_num_cpus))
    job_id = new_id("job")
    claims.claim(
        session,
        defaults=settings.quotas,
        project_id=project_id,
        job_id=job_id,
        cpus=config.resources.entrypoint_num_cpus,
        gpus=config.resources.entrypoint_num_gpus,
    )
    name = config.metadata.get(_NAME) or program.submission_id or job_id
    run = tracking.start_run(
        session,
        project_id=project_id,
        experiment=EXPERIMENT,
        name=name[:200],
        parameters={"entrypoint": config.entrypoint, "metadata": config.metadata},
        source={"kind": "training_job", "id": job_id},
    )
    job = TrainingJob(
        id=job_id,
        project_id=project_id,
        name=name[:200],
        submission_id=program.submission_id,
        status=JobStatus.PENDING,
        config=config.model_dump(mode="json"),
        run_id=run.id,
        progress=TrainingProgress().model_dump(),
        created_by=principal.id,
        user_id=principal.user_id,
        request_id=current_request_id(),
    )
    with unless_refused(session, SubmissionIdTaken(program.submission_id or job_id)):
        session.add(job)
    return job


def get_program(session: Session, *, project_id: str, name: str) -> TrainingJob:
    """Return a project's job by its submission id or its id.

    Raises:
        JobNotFound: If the project has none of that name.
    """
    named = or_(col(TrainingJob.submission_id) == name, col(TrainingJob.id) == name)
    job = session.exec(select(TrainingJob).where(TrainingJob.project_id == project_id, named)).one_or_none()
    if job is None:
        raise JobNotFound(name)
    return job


def list_programs(session: Session, *, project_id: str) -> list[TrainingJob]:
    """Return the newest thousand jobs of a project, training jobs among them, newest first."""
    mine = select(TrainingJob).where(TrainingJob.project_id == project_id)
    return list(session.exec(mine.order_by(col(TrainingJob.id).desc()).limit(LONGEST_LIST)))


def read_program(job: TrainingJob) -> ProgramRead:
    """Return a job as a program."""
    return ProgramRead(
        submission_id=job.submission_id or job.id,
        status=JobStatus(job.status),
        entrypoint=job.config.get("entrypoint") or program_of(job).entrypoint,
        runtime_env=redacted(job.config.get("runtime_env", {})),
        metadata=job.config.get("metadata", {}),
        message=job.message,
        error=job.error,
        started_at=job.started_at,
        completed_at=job.completed_at,
    )


def has_ended(job: TrainingJob) -> bool:
    """Tell whether nothing will change any more."""
    return job.status in ENDED


def log_since(session: Session, job_id: str, position: int) -> str:
    """Return what a job has written from a position on, which is a number of signs at a former piece's end."""
    pieces = select(JobLog.text).where(JobLog.job_id == job_id, col(JobLog.position) >= position)
    return "".join(session.exec(pieces.order_by(col(JobLog.position))))


def find_package(session: Session, *, project_id: str, name: str) -> JobPackage | None:
    """Return the package that a client uploaded under this name."""
    return session.get(JobPackage, (project_id, name))


def add_package(session: Session, *, project_id: str, name: str, blob: Blob) -> None:
    """Take a stored file as a package; one of the same name gives way, and jobs keep what they were submitted with."""
    session.merge(
        JobPackage(project_id=project_id, name=name, uri=blob.uri, sha256=blob.sha256, size_bytes=blob.size_bytes)
    )


def uris_in_use(session: Session, uris: list[str]) -> set[str]:
    """Return which of these places hold a package, of a project or of a job that was submitted with it, or a state."""
    stored = select(JobPackage.uri).where(col(JobPackage.uri).in_(uris))
    states = select(JobCheckpoint.uri).where(col(JobCheckpoint.uri).in_(uris))
    packages = func.jsonb_each_text(TrainingJob.config["packages"]).table_valued("key", "value")
    of_jobs = (
        select(packages.c.value)
        .select_from(TrainingJob)
        .join(packages, true())
        .where(func.jsonb_typeof(TrainingJob.config["packages"]) == "object", packages.c.value.in_(uris))
    )
    return {uri for statement in (stored, states, of_jobs) for uri in session.exec(statement)}


def _pinned(session: Session, project_id: str, program: ProgramCreate) -> SubmittedProgram:
    _refuse_reserved(program)
    environment = check_environment(program.runtime_env or {})
    check_references(session, project_id, environment.get("env_vars", {}).values())
    uris = package_uris(environment)
    packages = {uri: _package(session, project_id, package_name(uri)) for uri in uris}
    stored = {uri: stored_uri(package.name, package.sha256) for uri, package in packages.items()}
    return SubmittedProgram(
        entrypoint=program.entrypoint,
        runtime_env=with_uris(environment, stored),
        metadata=program.metadata or {},
        packages={stored[uri]: package.uri for uri, package in packages.items()},
        resources=_resources(program),
    )


def _package(session: Session, project_id: str, name: str) -> JobPackage:
    package = find_package(session, project_id=project_id, name=name)
    if package is None:
        raise PackageNotFound(name)
    return package


def _resources(program: ProgramCreate) -> EntrypointResources:
    return EntrypointResources(
        entrypoint_num_cpus=program.entrypoint_num_cpus or DEFAULT_CPUS,
        entrypoint_num_gpus=program.entrypoint_num_gpus or 0.0,
        entrypoint_memory=program.entrypoint_memory,
        entrypoint_resources=program.entrypoint_resources or {},
    )


def _refuse_reserved(program: ProgramCreate) -> None:
    if program.submission_id and program.submission_id.startswith("job_"):
        raise BadSubmission("A submission id may not begin with 'job_': the platform's own ids do.")
    for name in program.entrypoint_resources or {}:
        if name.startswith("node:"):
            raise BadSubmission(f"entrypoint_resources may not name {name!r}: a project does not choose nodes.")
