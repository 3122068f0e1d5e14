"""Training jobs."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from .documents import Document
from .errors import NotFound, WaitTimeout
from .transport import Transport

_PATH = "/api/v1/training-jobs"
ENDED = frozenset({"completed", "failed", "cancelled"})


class Progress(Document):
    """How far a job has come."""

    percent: float
    epoch: int
    total_epochs: int


class JobError(Document):
    """Why a job did not complete."""

    type: str
    message: str


class TrainingJob(Document):
    """A training job.

    ``message`` says what a pending job waits for, ``attempt`` counts its restarts, ``logs`` holds its last lines.
    """

    id: str
    project_id: str
    name: str
    status: str
    message: str | None = None
    attempt: int = 0
    config: dict[str, Any]
    progress: Progress
    metrics: dict[str, Any]
    logs: list[str]
    model_id: str | None
    model_version_id: str | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


class TrainingJobs:
    """Calls below ``/training-jobs``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def start(
        self,
        *,
        project_id: str,
        dataset: str,
        model: str,
        hyperparameters: dict[str, Any],
        dataset_version: int | None = None,
        trainer: str = "tabular-classifier",
        framework: str = "pytorch",
        resources: dict[str, float] | None = None,
        restart: dict[str, Any] | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> TrainingJob:
        """Start a training job.

        Args:
            project_id: The project.
            dataset: Id of the dataset.
            model: Name of the registered model that gets the new version; made when missing.
            hyperparameters: The trainer's own, such as ``target`` and ``epochs``.
            dataset_version: Number of the version; the newest unless given.
            trainer: Name of the trainer.
            framework: Framework of the trainer.
            resources: ``num_workers``, ``cpus_per_worker`` and ``gpus_per_worker``.
            restart: ``on_loss``, "fail" or "resume" when the cluster or the job's node is lost, and ``max_restarts``.
            name: Name of the job.
            idempotency_key: Made anew unless given; one key starts one job.
        """
        body = {
            "project_id": project_id,
            "name": name,
            "framework": framework,
            "trainer": trainer,
            "dataset": {"id": dataset, "version": dataset_version},
            "model": {"name": model},
            "hyperparameters": hyperparameters,
            "resources": resources or {},
            "restart": restart or {},
        }
        once = idempotency_key or str(uuid4())
        return TrainingJob.model_validate(self._transport.document("POST", _PATH, json=body, once=once))

    def get(self, job_id: str) -> TrainingJob:
        """Return a job as it is now."""
        return TrainingJob.model_validate(self._transport.document("GET", f"{_PATH}/{job_id}"))

    def list(self, *, project_id: str | None = None, status: str | None = None) -> Iterator[TrainingJob]:
        """Walk through the jobs that the caller may read, newest first."""
        items = self._transport.items(_PATH, {"project_id": project_id, "status": status})
        return (TrainingJob.model_validate(item) for item in items)

    def cancel(self, job_id: str) -> TrainingJob:
        """Ask a job to stop."""
        return TrainingJob.model_validate(self._transport.document("POST", f"{_PATH}/{job_id}/cancel"))

    def delete(self, job_id: str) -> None:
        """Remove a job that has ended."""
        self._transport.request("DELETE", f"{_PATH}/{job_id}")

    def logs(self, job_id: str) -> str:
        """Return all that a job has written."""
        return self._transport.request("GET", f"{_PATH}/{job_id}/logs").text

    def wait(
        self,
        job_id: str,
        *,
        timeout_s: float = 600.0,
        poll_s: float = 0.5,
        watch: Callable[[TrainingJob], None] | None = None,
    ) -> TrainingJob:
        """Wait until a job has ended, whichever way.

        Args:
            job_id: The job.
            timeout_s: Seconds to wait.
            poll_s: Seconds between two looks.
            watch: Called with the job at each look.

        Raises:
            WaitTimeout: If it has not ended in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.get(job_id)
            if watch is not None:
                watch(job)
            if job.has_ended:
                return job
            if time.monotonic() >= deadline:
                raise WaitTimeout(f"The training job {job_id} is still {job.status} after {timeout_s:.0f} s.")
            time.sleep(poll_s)

    def report_progress(self, job_id: str, *, epoch: int, total_epochs: int, metrics: dict[str, float]) -> None:
        """Say how far the caller's own job has come; for the program that runs inside the job."""
        body = {"epoch": epoch, "total_epochs": total_epochs, "metrics": metrics}
        self._transport.request("POST", f"{_PATH}/{job_id}/progress", json=body, once=f"{job_id}-epoch-{epoch}")

    def report_result(self, job_id: str, *, model_version_id: str, metrics: dict[str, float]) -> None:
        """Say what the caller's own job has made; for the program that runs inside the job."""
        body = {"model_version_id": model_version_id, "metrics": metrics}
        self._transport.request("POST", f"{_PATH}/{job_id}/result", json=body, once=f"{job_id}-result")

    def put_checkpoint(self, job_id: str, content: bytes, *, epoch: int) -> None:
        """Keep a state that the caller's own job can go on from; for the program that runs inside the job."""
        self._transport.request("PUT", f"{_PATH}/{job_id}/checkpoint", params={"epoch": epoch}, content=content)

    def fetch_checkpoint(self, job_id: str, target: Path) -> bool:
        """Copy a job's newest checkpoint into a file, and tell whether there is one."""
        with suppress(NotFound):
            self._transport.download(f"{_PATH}/{job_id}/checkpoint", target)
            return True
        return False
