"""Ray jobs through the dashboard's REST interface; Ray itself is not imported."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ..kernel.errors import ValidationFailed
from .cluster import Cluster

_BAD_REQUEST = 400


class JobRefused(ValidationFailed):
    """Raised when Ray does not take a job as it is, and never will."""


@dataclass(frozen=True)
class JobSubmission:
    """A command to run as a Ray job; the submission id is ours."""

    id: str
    entrypoint: str
    env_vars: dict[str, str] = field(repr=False)
    num_cpus: float
    num_gpus: float
    metadata: dict[str, str]
    memory: int | None = None
    resources: dict[str, float] = field(default_factory=dict)
    runtime_env: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobState:
    """What Ray says of a job.

    Attributes:
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: Ray's words for it.
        error_type: One of Ray's ``JobErrorType`` for a failed job.
        exit_code: How the entrypoint ended; negative for a signal.
        ended_at: Seconds since 1970, None while it runs.
    """

    status: str
    message: str = ""
    error_type: str | None = None
    exit_code: int | None = None
    ended_at: float | None = None


class RayJobs:
    """The jobs of one Ray cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def submit(self, job: JobSubmission) -> None:
        """Start a job; one whose submission id the cluster knows already stays as it is.

        Raises:
            JobRefused: If the cluster does not take it as it is.
            ClusterUnreachable: If the cluster does not answer.
        """
        body: dict[str, Any] = {
            "submission_id": job.id,
            "entrypoint": job.entrypoint,
            "runtime_env": job.runtime_env | {"env_vars": job.env_vars},
            "entrypoint_num_cpus": job.num_cpus,
            "entrypoint_num_gpus": job.num_gpus,
            "entrypoint_memory": job.memory,
            "entrypoint_resources": job.resources or None,
            "metadata": job.metadata,
        }
        answer = self._cluster.send("POST", "/api/jobs/", json=body)
        # The answer of an earlier submission may have been lost on its way.
        if answer.is_error and job.id not in self.statuses():
            if answer.status_code == _BAD_REQUEST:
                raise JobRefused(f"Ray refuses the job: {_last_line(answer)}")
            self._cluster.check(answer)

    def has_package(self, uri: str) -> bool:
        """Tell whether Ray's package store has a package, and keep it there for the next ten minutes.

        Raises:
            ClusterUnreachable: If the cluster does not answer.
        """
        # Without being asked for, it may go with the last job that used it.
        return self._cluster.send("GET", _package(uri)).is_success

    def put_package(self, uri: str, path: Path) -> None:
        """Put a file under ``gcs://<name>`` into Ray's package store, where a runtime environment finds it.

        Raises:
            ClusterUnreachable: If the cluster does not answer or refuses.
        """
        answer = self._cluster.send("PUT", _package(uri), content=path.read_bytes(), timeout=120.0)
        self._cluster.check(answer)

    def states(self) -> dict[str, JobState]:
        """Map every submitted job that the cluster remembers to its state."""
        rows: Any = self._cluster.call("GET", "/api/jobs/")
        return {row["submission_id"]: _state(row) for row in rows if row["submission_id"]}

    def statuses(self) -> dict[str, str]:
        """Map every submitted job that the cluster remembers to Ray's word for its state."""
        return {job_id: state.status for job_id, state in self.states().items()}

    def logs(self, job_id: str) -> str:
        """Return all that the job has written so far; empty before it starts."""
        logs: str = self._cluster.call("GET", f"/api/jobs/{job_id}/logs")["logs"]
        return logs or ""

    def stop(self, job_id: str) -> None:
        """Ask Ray to end a job."""
        self._cluster.stop_job(job_id)


def _package(uri: str) -> str:
    protocol, _, name = uri.partition("://")
    return f"/api/packages/{protocol}/{name}"


def _last_line(answer: httpx.Response) -> str:
    lines = answer.text.strip().splitlines()
    return lines[-1] if lines else f"HTTP {answer.status_code}"


def _state(row: dict[str, Any]) -> JobState:
    ended_ms = row.get("end_time")
    return JobState(
        status=row["status"],
        message=row.get("message") or "",
        error_type=row.get("error_type"),
        exit_code=row.get("driver_exit_code"),
        ended_at=ended_ms / 1000 if ended_ms else None,
    )
