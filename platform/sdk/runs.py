"""Runs: what a program was started with, what it measured, and how it ended."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from .documents import Document
from .transport import Transport

_PATH = "/api/v1/runs"


class Run(Document):
    """A run; ``metrics`` holds the last value of each."""

    id: str
    project_id: str
    experiment_id: str
    name: str
    status: str
    parameters: dict[str, Any]
    metrics: dict[str, float]
    source: dict[str, Any]
    started_at: datetime
    completed_at: datetime | None


class Runs:
    """Calls below ``/runs``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        experiment: str,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        project_id: str | None = None,
    ) -> Run:
        """Start a run.

        Args:
            experiment: Name of the experiment; made when missing.
            name: Name of the run; its id unless given.
            parameters: What the run is started with.
            project_id: The project; that of the API key unless given.
        """
        body = {
            "project_id": project_id,
            "experiment": experiment,
            "name": name,
            "parameters": dict(parameters or {}),
        }
        return Run.model_validate(self._transport.document("POST", _PATH, json=body, once=str(uuid4())))

    def get(self, run_id: str) -> Run:
        """Return a run as it is now."""
        return Run.model_validate(self._transport.document("GET", f"{_PATH}/{run_id}"))

    def list(self, *, project_id: str | None = None, experiment_id: str | None = None) -> Iterator[Run]:
        """Walk through the runs that the caller may read, newest first."""
        items = self._transport.items(_PATH, {"project_id": project_id, "experiment_id": experiment_id})
        return (Run.model_validate(item) for item in items)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Add the values of one step; the last value that a step gets counts."""
        body = {"step": step, "metrics": dict(metrics)}
        self._transport.request("POST", f"{_PATH}/{run_id}/metrics", json=body, repeatable=True)

    def finish(self, run_id: str, status: str = "completed") -> Run:
        """Say how a run ended: ``completed``, ``failed`` or ``cancelled``; its first end stays."""
        path = f"{_PATH}/{run_id}/finish"
        return Run.model_validate(self._transport.document("POST", path, json={"status": status}, repeatable=True))
