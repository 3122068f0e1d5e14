"""The main job over HTTP alone: from a file to a served, watched model; `demo` and `quickstart` are two of it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

from ..sdk import Client
from ..sdk.datasets import DatasetVersion
from ..sdk.deployments import Deployment
from ..sdk.models import ModelVersion
from ..sdk.training_jobs import TrainingJob
from .deployments import deploy_version
from .progress import ProgressLines

STEPS = ("log in", "project", "dataset", "train", "registry", "deploy", "predict", "metrics")
METRICS_WITHIN_S = 3.0
_PREDICTED_AT_ONCE = 200


class StepFailed(Exception):
    """Raised when a step did not give what it must; the message says which."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Training:
    """What is asked of a trainer."""

    trainer: str
    hyperparameters: dict[str, Any]


@dataclass
class MainJob(ABC):
    """The main job, step by step; each step says in one line what it saw.

    Attributes:
        client: A logged-in client.
        project: Name of the project; made when missing.
        name: Name of dataset, model and deployment.
        content: The file, as bytes or by its path.
        filename: Its name, whose ending tells the format.
        seen: What each step saw.
    """

    client: Client
    project: str
    name: str
    content: bytes | Path
    filename: str
    seen: dict[str, str] = field(default_factory=dict)

    training_timeout_s: ClassVar[float] = 300.0

    project_id: str = field(init=False)
    dataset: DatasetVersion = field(init=False)
    job: TrainingJob = field(init=False)
    version: ModelVersion = field(init=False)
    deployment: Deployment = field(init=False)
    requests: int = field(init=False)

    @abstractmethod
    def training(self) -> Training:
        """Return what to ask for; the dataset is there."""

    @abstractmethod
    def predict_held_out(self) -> str:
        """Predict rows that were not learned from, and say how well that went."""

    def run(self, progress: ProgressLines) -> None:
        """Do every step.

        Raises:
            StepFailed: If one did not give what it must.
            RaymillError: If the platform refuses or does not answer.
        """
        for name in STEPS:
            progress.begin(name)
            try:
                self.seen[name] = getattr(self, f"_{name.replace(' ', '_')}")(progress)
            except BaseException:
                progress.failed(name)
                raise
            progress.done(name, self.seen[name])

    def run_and_show(self) -> None:
        """Do every step in the sight of a user, and print what was seen."""
        console = Console()
        with ProgressLines(console) as progress:
            self.run(progress)
        table = Table("step", "result")
        for step, result in self.seen.items():
            table.add_row(step, result)
        console.print(table)

    def predict(self, client: Client, rows: Sequence[Any]) -> list[Any]:
        """Predict rows, some at a time, and count the requests."""
        answers: list[Any] = []
        for start in range(0, len(rows), _PREDICTED_AT_ONCE):
            part = list(rows[start : start + _PREDICTED_AT_ONCE])
            answers += client.endpoints.predict(self.deployment.endpoint, part).predictions
            self.requests += 1
        return answers

    def _log_in(self, progress: ProgressLines) -> str:
        return self.client.auth.me().email

    def _project(self, progress: ProgressLines) -> str:
        self.project_id = self.client.projects.from_name(self.project, create_if_missing=True).id
        return self.project

    def _dataset(self, progress: ProgressLines) -> str:
        known = {dataset.name: dataset for dataset in self.client.datasets.list(project_id=self.project_id)}
        dataset = known.get(self.name) or self.client.datasets.create(project_id=self.project_id, name=self.name)
        self.dataset = self.client.datasets.upload(dataset.id, self.content, filename=self.filename)
        columns = len(self.dataset.table_schema.columns)
        return f"version {self.dataset.version}: {self.dataset.row_count} rows, {columns} columns"

    def _train(self, progress: ProgressLines) -> str:
        training = self.training()
        job = self.client.training_jobs.start(
            project_id=self.project_id,
            dataset=self.dataset.dataset_id,
            dataset_version=self.dataset.version,
            model=self.name,
            trainer=training.trainer,
            hyperparameters=training.hyperparameters,
        )

        def show(job: TrainingJob) -> None:
            progress.note("train", f"{job.status}, epoch {job.progress.epoch} of {job.progress.total_epochs}")

        self.job = self.client.training_jobs.wait(job.id, timeout_s=self.training_timeout_s, watch=show)
        if self.job.status != "completed":
            reason = self.job.error.message if self.job.error else ""
            raise StepFailed(f"The training job {self.job.id} is {self.job.status}: {reason}")
        return f"{training.trainer}, {self.job.progress.epoch} epochs, validation {_validation(self.job.metrics)}"

    def _registry(self, progress: ProgressLines) -> str:
        versions = self.client.models.versions(self.job.model_id or "")
        self.version = next(found for found in versions if found.id == self.job.model_version_id)
        files = ", ".join(artifact.path for artifact in self.version.artifacts)
        return f"{self.name} version {self.version.version}: {files}"

    def _deploy(self, progress: ProgressLines) -> str:
        self.deployment = deploy_version(
            self.client, project_id=self.project_id, name=self.name, model=self.name, version=self.version.version
        )
        return f"{self.deployment.endpoint} on {self.deployment.replicas} replica(s)"

    def _predict(self, progress: ProgressLines) -> str:
        self.requests = self.client.deployments.metrics(self.deployment.id)["requests"]
        return self.predict_held_out()

    def _metrics(self, progress: ProgressLines) -> str:
        # Each model server writes its counts twice a second.
        deadline = time.monotonic() + METRICS_WITHIN_S
        while (metrics := self.client.deployments.metrics(self.deployment.id))["requests"] < self.requests:
            if time.monotonic() > deadline:
                raise StepFailed(f"The metrics show {metrics['requests']} requests, fewer than were sent.")
            time.sleep(0.1)
        latency = metrics["latency_ms"]
        return f"{metrics['requests']} requests, {metrics['errors']} errors, p50 {latency['p50']:.1f} ms"


def _validation(metrics: dict[str, Any]) -> str:
    shown = [name for name in ("accuracy", "r2", "mae") if name in metrics]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in shown)
