"""Tables of experiments, runs and metrics."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Identity
from sqlmodel import Field, Index, SQLModel, UniqueConstraint

from ..kernel.db import Table, document, moment, optional_moment
from .schemas import RunStatus


class Experiment(Table, table=True):
    """A question that runs try to answer."""

    __tablename__ = "experiment"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    description: str = ""


class Run(Table, table=True):
    """One attempt: its parameters, where it came from, and how it ended."""

    __tablename__ = "run"

    project_id: str = Field(foreign_key="project.id", index=True)
    experiment_id: str = Field(foreign_key="experiment.id", index=True, ondelete="CASCADE")
    name: str
    model_id: str | None = None
    parameters: dict[str, Any] = document(default_factory=dict)
    artifacts: list[dict[str, Any]] = document(default_factory=list)
    source: dict[str, Any] = document(default_factory=dict)
    status: str = RunStatus.RUNNING
    started_at: datetime = moment()
    completed_at: datetime | None = optional_moment()


class RunMetric(SQLModel, table=True):
    """One logged value; rows are only ever added."""

    __tablename__ = "run_metric"
    __table_args__ = (Index(None, "run_id", "key", "step"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    run_id: str = Field(foreign_key="run.id", ondelete="CASCADE")
    step: int = Field(sa_type=BigInteger)
    key: str
    value: float
    logged_at: datetime = moment()
