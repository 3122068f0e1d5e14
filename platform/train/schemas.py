"""Bodies of the training routes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..kernel.bodies import Number, PlainName, VersionNumber, Whole
from ..projects.schemas import JobDefaults

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class JobStatus(StrEnum):
    """The life of a job."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


class FailureType(StrEnum):
    """Why a job failed."""

    DRIVER_FAILED = "DRIVER_FAILED"
    DRIVER_KILLED = "DRIVER_KILLED"
    ENVIRONMENT_FAILED = "ENVIRONMENT_FAILED"
    NOT_STARTED = "NOT_STARTED"
    NO_RESULT = "NO_RESULT"
    STOPPED = "STOPPED"
    LOST_CLUSTER = "LOST_CLUSTER"
    LOST_NODE = "LOST_NODE"
    LOST_JOB = "LOST_JOB"


class DatasetReference(BaseModel):
    """A dataset, and which version of it; the latest when none is named."""

    model_config = ConfigDict(extra="forbid")

    id: str
    version: VersionNumber | None = None


class ModelReference(BaseModel):
    """The model that gets a new version; it is made when missing."""

    model_config = ConfigDict(extra="forbid")

    name: PlainName


class ResourceRequirements(BaseModel):
    """What the job takes of the cluster."""

    model_config = ConfigDict(extra="forbid")

    num_workers: Whole = Field(1, ge=1, le=64)
    cpus_per_worker: Number = Field(1.0, gt=0, le=256)
    gpus_per_worker: Number = Field(0.0, ge=0, le=64)


class RestartPolicy(JobDefaults):
    """What happens when machines are lost under a job.

    When one of several workers dies, all start again from the last checkpoint. When the whole cluster is lost, or the
    node that ran the job's driver, the job fails, or resumes from its last checkpoint if ``on_loss`` says so. Each of
    these happens ``max_restarts`` times at most.
    """

    @classmethod
    def of(cls, config: dict[str, Any]) -> "RestartPolicy":
        """Read the policy of a job's configuration."""
        return cls.model_validate(config.get("restart", {}))


class EntrypointResources(BaseModel):
    """What the entrypoint of a submitted program takes of the cluster, by Ray's own names."""

    entrypoint_num_cpus: float = Field(0.0, ge=0, le=256)
    entrypoint_num_gpus: float = Field(0.0, ge=0, le=64)
    entrypoint_memory: int | None = Field(None, ge=0)
    entrypoint_resources: dict[str, Annotated[float, Field(ge=0)]] = {}


class SubmittedProgram(BaseModel):
    """A user's own command as a job; this is the ``config`` of such a job.

    ``packages`` maps the ``gcs://`` URIs that the runtime environment names to their place in the object store.
    """

    entrypoint: str
    runtime_env: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    packages: dict[str, str] = {}
    resources: EntrypointResources = EntrypointResources()
    restart: RestartPolicy = RestartPolicy()


class TrainingConfig(BaseModel):
    """A job to be started."""

    model_config = ConfigDict(extra="forbid")

    project_id: str
    name: Title | None = None
    framework: str
    trainer: str
    dataset: DatasetReference
    model: ModelReference
    hyperparameters: dict[str, Any] = {}
    resources: ResourceRequirements = ResourceRequirements()
    restart: RestartPolicy = RestartPolicy()


class TrainingProgress(BaseModel):
    """How far a job is; percent counts finished epochs."""

    percent: float = 0.0
    epoch: int = 0
    total_epochs: int = 0


class TrainingError(BaseModel):
    """Why a job failed."""

    type: FailureType
    message: str


class TrainingJobRead(BaseModel):
    """A job.

    ``message`` says what a pending job waits for, ``attempt`` counts its restarts, ``logs`` are its last lines.
    """

    id: str
    project_id: str
    name: str
    submission_id: str | None = None
    status: JobStatus
    message: str | None = None
    attempt: int = 0
    model_id: str | None
    config: dict[str, Any]
    progress: TrainingProgress
    metrics: dict[str, float]
    logs: list[str] = []
    run_id: str
    model_version_id: str | None
    error: TrainingError | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class TrainingStatus(BaseModel):
    """The short form of a job."""

    id: str
    status: JobStatus
    message: str | None = None
    progress: TrainingProgress
    error: TrainingError | None


class CheckpointRead(BaseModel):
    """The newest checkpoint of a job."""

    job_id: str
    epoch: int
    sha256: str
    size_bytes: int
    stored_at: datetime


class ProgressReport(BaseModel):
    """What a running job says after an epoch."""

    epoch: Whole = Field(ge=0)
    total_epochs: Whole = Field(ge=1)
    metrics: dict[str, Number] = {}


class ResultReport(BaseModel):
    """What a job says at its end."""

    model_version_id: str
    metrics: dict[str, Number] = {}


class ProgramCreate(BaseModel):
    """A command to be run as a job, in the fields of Ray's own job submission."""

    model_config = ConfigDict(extra="forbid")

    entrypoint: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=65_536)]
    submission_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] | None = None
    runtime_env: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    # A program without a share of a CPU would run on the head node, beside the cluster's own processes.
    entrypoint_num_cpus: float | None = Field(None, gt=0, le=256)
    entrypoint_num_gpus: float | None = Field(None, ge=0, le=64)
    entrypoint_memory: int | None = Field(None, ge=0)
    entrypoint_resources: dict[str, Annotated[float, Field(ge=0)]] | None = None


class ProgramRead(BaseModel):
    """A job as a program: what was submitted, and how far it is; the values of its variables are hidden."""

    submission_id: str
    status: JobStatus
    entrypoint: str
    runtime_env: dict[str, Any]
    metadata: dict[str, str]
    message: str | None
    error: TrainingError | None
    started_at: datetime | None
    completed_at: datetime | None
