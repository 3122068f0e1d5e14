"""Bodies of the training routes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class JobStatus(StrEnum):
    """The life of a job."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FailureType(StrEnum):
    """Why a job failed."""

    DRIVER_FAILED = "DRIVER_FAILED"
    NO_RESULT = "NO_RESULT"
    STOPPED = "STOPPED"
    LOST_CLUSTER = "LOST_CLUSTER"
    LOST_JOB = "LOST_JOB"


class DatasetReference(BaseModel):
    """A dataset, and which version of it; the latest when none is named."""

    model_config = ConfigDict(extra="forbid")

    id: str
    version: int | None = Field(None, ge=1)


class ModelReference(BaseModel):
    """The model that gets a new version; it is made when missing."""

    model_config = ConfigDict(extra="forbid")

    name: str


class ResourceRequirements(BaseModel):
    """What the job takes of the cluster."""

    model_config = ConfigDict(extra="forbid")

    num_workers: int = Field(1, ge=1, le=64)
    cpus_per_worker: float = Field(1.0, gt=0, le=256)
    gpus_per_worker: float = Field(0.0, ge=0, le=64)


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
    """A job; ``logs`` are its last lines."""

    id: str
    project_id: str
    name: str
    status: JobStatus
    model_id: str
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
    progress: TrainingProgress
    error: TrainingError | None


class ProgressReport(BaseModel):
    """What a running job says after an epoch."""

    epoch: int = Field(ge=0)
    total_epochs: int = Field(ge=1)
    metrics: dict[str, FiniteFloat] = {}


class ResultReport(BaseModel):
    """What a job says at its end."""

    model_version_id: str
    metrics: dict[str, FiniteFloat] = {}
