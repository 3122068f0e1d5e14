"""Tables of training jobs and their logs."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from ..kernel.db import Table, document, optional_moment


class TrainingJob(Table, table=True):
    """What should be trained, and how far it is."""

    __tablename__ = "training_job"

    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    status: str = Field(index=True)
    cancel_requested: bool = False
    config: dict[str, Any] = document()
    dataset_version_id: str = Field(foreign_key="dataset_version.id")
    model_id: str = Field(foreign_key="registered_model.id", index=True)
    model_version_id: str | None = Field(default=None, foreign_key="model_version.id", ondelete="SET NULL")
    run_id: str = Field(foreign_key="run.id")
    progress: dict[str, Any] = document()
    metrics: dict[str, Any] = document(default_factory=dict)
    error: dict[str, Any] | None = document(default=None, nullable=True)
    cluster_id: str | None = None
    created_by: str
    user_id: str = Field(foreign_key="user_account.id")
    request_id: str
    submitted_at: datetime | None = optional_moment()
    started_at: datetime | None = optional_moment()
    completed_at: datetime | None = optional_moment()


class JobLog(SQLModel, table=True):
    """A piece of a job's output; pieces in the order of ``position`` are the whole."""

    __tablename__ = "job_log"

    job_id: str = Field(primary_key=True, foreign_key="training_job.id", ondelete="CASCADE")
    position: int = Field(primary_key=True, sa_type=BigInteger)
    text: str
