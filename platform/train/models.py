"""Tables of training jobs, their logs, checkpoints and packages."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from ..kernel.db import Table, document, moment, optional_moment


class TrainingJob(Table, table=True):
    """What should be run, and how far it is: a trainer's work, or a program that a user submitted.

    A pending job waits in the queue while ``cluster_id`` is empty, and in Ray afterwards. ``submission_id`` is the
    name that a client gave; ``attempt`` counts the restarts; ``log_start`` is where the present attempt's output
    begins in the stored log.
    """

    __tablename__ = "training_job"
    __table_args__ = (UniqueConstraint("project_id", "submission_id"),)

    project_id: str = Field(foreign_key="project.id", index=True)
    name: str
    submission_id: str | None = None
    status: str = Field(index=True)
    message: str | None = None
    cancel_requested: bool = False
    config: dict[str, Any] = document()
    dataset_version_id: str | None = Field(default=None, foreign_key="dataset_version.id")
    model_id: str | None = Field(default=None, foreign_key="registered_model.id", index=True)
    model_version_id: str | None = Field(default=None, foreign_key="model_version.id", ondelete="SET NULL")
    run_id: str = Field(foreign_key="run.id")
    progress: dict[str, Any] = document()
    metrics: dict[str, Any] = document(default_factory=dict)
    error: dict[str, Any] | None = document(default=None, nullable=True)
    cluster_id: str | None = None
    attempt: int = 0
    log_start: int = Field(default=0, sa_type=BigInteger)
    created_by: str
    user_id: str = Field(foreign_key="user_account.id")
    request_id: str
    submitted_at: datetime | None = optional_moment()
    started_at: datetime | None = optional_moment()
    completed_at: datetime | None = optional_moment()

    @property
    def ray_id(self) -> str:
        """The submission id of the present attempt in Ray."""
        return f"{self.id}-{self.attempt}" if self.attempt else self.id


class JobLog(SQLModel, table=True):
    """A piece of a job's output; pieces in the order of ``position`` are the whole."""

    __tablename__ = "job_log"

    job_id: str = Field(primary_key=True, foreign_key="training_job.id", ondelete="CASCADE")
    position: int = Field(primary_key=True, sa_type=BigInteger)
    text: str


class JobCheckpoint(SQLModel, table=True):
    """The newest state that a job can go on from."""

    __tablename__ = "job_checkpoint"

    job_id: str = Field(primary_key=True, foreign_key="training_job.id", ondelete="CASCADE")
    epoch: int
    uri: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    stored_at: datetime = moment()


class JobPackage(SQLModel, table=True):
    """An archive for the runtime environments of a project's jobs, under the name that the client gave it."""

    __tablename__ = "job_package"

    project_id: str = Field(primary_key=True, foreign_key="project.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    uri: str
    sha256: str
    size_bytes: int = Field(sa_type=BigInteger)
    stored_at: datetime = moment()
