"""The answers of Ray's Jobs API (Ray 2.60, ``ray/dashboard/modules/job``), made from the platform's jobs."""

from datetime import datetime
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel

from ..train.schemas import JobStatus, ProgramRead

# The version of the Jobs API that these answers are of; Ray's client compares only Ray's own.
API_VERSION = "4"

RayStatus = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"]

_STATUS: dict[JobStatus, RayStatus] = {
    JobStatus.PENDING: "PENDING",
    JobStatus.RUNNING: "RUNNING",
    JobStatus.COMPLETED: "SUCCEEDED",
    JobStatus.FAILED: "FAILED",
    JobStatus.CANCELLED: "STOPPED",
}
_WORDS: dict[RayStatus, str] = {
    "PENDING": "Job has not started yet.",
    "RUNNING": "Job is currently running.",
    "SUCCEEDED": "Job finished successfully.",
    "FAILED": "Job failed.",
    "STOPPED": "Job was intentionally stopped.",
}


class VersionResponse(BaseModel):
    """Which interface this is."""

    version: str = API_VERSION
    ray_version: str = metadata.version("ray")
    ray_commit: str = ""
    session_name: str = "raymill"


class SubmitResponse(BaseModel):
    """Under which name a job goes; ``job_id`` is the older word for it."""

    job_id: str
    submission_id: str


class StopResponse(BaseModel):
    """Whether the job was there to be stopped."""

    stopped: bool


class DeleteResponse(BaseModel):
    """Whether the job is gone."""

    deleted: bool


class LogsResponse(BaseModel):
    """All that a job has written."""

    logs: str


class JobDetails(BaseModel):
    """One job; times are milliseconds since 1970, and nothing is told of the nodes that run it."""

    type: Literal["SUBMISSION"] = "SUBMISSION"
    job_id: str | None = None
    submission_id: str
    driver_info: None = None
    status: RayStatus
    entrypoint: str
    message: str
    error_type: str | None
    start_time: int | None
    end_time: int | None
    metadata: dict[str, str]
    runtime_env: dict[str, Any]
    driver_agent_http_address: None = None
    driver_node_id: None = None
    driver_exit_code: None = None


def job_details(program: ProgramRead) -> JobDetails:
    """Return a job in Ray's words."""
    status = _STATUS[program.status]
    return JobDetails(
        submission_id=program.submission_id,
        status=status,
        entrypoint=program.entrypoint,
        message=program.error.message if program.error else program.message or _WORDS[status],
        error_type=program.error.type if program.error else None,
        start_time=_milliseconds(program.started_at),
        end_time=_milliseconds(program.completed_at),
        metadata=program.metadata,
        runtime_env=program.runtime_env,
    )


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
