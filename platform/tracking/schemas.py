"""Bodies of the experiment and run routes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..kernel.bodies import Number, Whole

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Description = Annotated[str, StringConstraints(max_length=4000)]
MetricKey = Annotated[str, StringConstraints(min_length=1, max_length=250)]


class RunStatus(StrEnum):
    """The life of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ExperimentCreate(BaseModel):
    """A new experiment without runs."""

    project_id: str
    name: Name
    description: Description = ""


class RunCreate(BaseModel):
    """A new run; an API key needs to name no project, and the experiment is made when there is none of that name."""

    project_id: str | None = None
    experiment: Name
    name: Name | None = None
    model_id: str | None = None
    parameters: dict[str, Any] = {}


class MetricsWrite(BaseModel):
    """Values that belong to one step, such as an epoch."""

    model_config = ConfigDict(extra="forbid")

    step: Whole = Field(default=0, ge=0, lt=2**63)
    metrics: dict[MetricKey, Number] = Field(min_length=1, max_length=1000)


class RunFinish(BaseModel):
    """How a run ended, and what it left."""

    model_config = ConfigDict(extra="forbid")

    status: Literal[RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED] = RunStatus.COMPLETED
    model_id: str | None = None
    artifacts: list[dict[str, Any]] | None = None


class MetricPoint(BaseModel):
    """One logged value."""

    model_config = ConfigDict(from_attributes=True)

    step: int
    key: str
    value: float
    logged_at: datetime


class MetricQuery(BaseModel):
    """Which logged values are wanted: of one metric, and after which former page."""

    key: str | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | None = None


class MetricHistory(BaseModel):
    """Logged values in the order of logging, and the cursor of the next page."""

    items: list[MetricPoint]
    next_cursor: str | None = None


class RunRead(BaseModel):
    """A run; ``metrics`` holds the last value of each key."""

    id: str
    project_id: str
    experiment_id: str
    name: str
    model_id: str | None
    parameters: dict[str, Any]
    metrics: dict[str, float]
    artifacts: list[dict[str, Any]]
    source: dict[str, Any]
    status: RunStatus
    started_at: datetime
    completed_at: datetime | None
    created_at: datetime


class ExperimentRead(BaseModel):
    """An experiment; from ``run_id`` to ``completed_at`` it shows its newest run."""

    id: str
    project_id: str
    name: str
    description: str
    created_at: datetime
    run_id: str | None = None
    model_id: str | None = None
    parameters: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    artifacts: list[dict[str, Any]] = []
    status: RunStatus | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
