"""`raymill demo`: from a real table to a served, watched model, over HTTP alone.

The data are the optical digits of the UCI repository (1,797 rows, 64 features) that scikit-learn carries.
"""

import csv
import io
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..kernel.settings import Settings
from ..sdk import Client
from ..sdk.deployments import Deployment
from ..sdk.errors import Conflict
from ..sdk.models import ModelVersion
from ..sdk.training_jobs import TrainingJob
from .progress import ProgressLines

Rows = list[list[float]]

TRAINING = {"epochs": 30, "batch_size": 64, "learning_rate": 2e-3, "hidden_sizes": [64], "seed": 7}
LEAST_ACCURACY = 0.95
METRICS_WITHIN_S = 3.0


class DemoFailed(Exception):
    """Raised when a step did not give what it must; the message says which."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Digits:
    """The digits, split into rows to learn from and rows held out."""

    columns: list[str]
    train: Rows
    train_labels: list[int]
    held_out: Rows
    held_out_labels: list[int]

    @classmethod
    def load(cls) -> "Digits":
        """Read and split the data, the same way each time."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        train, held_out, train_labels, held_out_labels = train_test_split(
            digits.data, digits.target, test_size=0.25, random_state=7, stratify=digits.target
        )
        return cls(
            columns=list(digits.feature_names),
            train=train.tolist(),
            train_labels=train_labels.tolist(),
            held_out=held_out.tolist(),
            held_out_labels=held_out_labels.tolist(),
        )

    def csv(self) -> bytes:
        """Return the rows to learn from as a CSV file with the column ``digit``."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([*self.columns, "digit"])
        writer.writerows([*row, label] for row, label in zip(self.train, self.train_labels, strict=True))
        return text.getvalue().encode()

    def accuracy(self, probabilities: Rows, labels: list[Any]) -> float:
        """Return the share of held-out rows whose most probable label is right."""
        guesses = [labels[max(range(len(row)), key=row.__getitem__)] for row in probabilities]
        right = sum(bool(guess == label) for guess, label in zip(guesses, self.held_out_labels, strict=True))
        return right / len(self.held_out_labels)


@dataclass
class Demo:
    """The main job, step by step; each step says in one line what it saw."""

    client: Client
    project: str
    digits: Digits = field(default_factory=Digits.load)
    seen: dict[str, str] = field(default_factory=dict)

    def run(self, progress: ProgressLines) -> None:
        """Do every step."""
        for name in ("log in", "project", "dataset", "train", "registry", "deploy", "predict", "metrics"):
            progress.begin(name)
            try:
                self.seen[name] = getattr(self, f"_{name.replace(' ', '_')}")(progress)
            except BaseException:
                progress.failed(name)
                raise
            progress.done(name, self.seen[name])

    def _log_in(self, progress: ProgressLines) -> str:
        return self.client.auth.me().email

    def _project(self, progress: ProgressLines) -> str:
        self._project_id = self.client.projects.from_name(self.project, create_if_missing=True).id
        return self.project

    def _dataset(self, progress: ProgressLines) -> str:
        known = {dataset.name: dataset for dataset in self.client.datasets.list(project_id=self._project_id)}
        dataset = known.get("digits") or self.client.datasets.create(project_id=self._project_id, name="digits")
        version = self.client.datasets.upload(dataset.id, self.digits.csv(), filename="digits.csv")
        self._dataset_id, self._dataset_version = dataset.id, version.version
        return f"version {version.version}: {version.row_count} rows, {version.size_bytes} bytes of Parquet"

    def _train(self, progress: ProgressLines) -> str:
        job = self.client.training_jobs.start(
            project_id=self._project_id,
            dataset=self._dataset_id,
            dataset_version=self._dataset_version,
            model="digits",
            hyperparameters={"target": "digit", **TRAINING},
        )

        def show(job: TrainingJob) -> None:
            progress.note("train", f"{job.status}, epoch {job.progress.epoch} of {job.progress.total_epochs}")

        job = self.client.training_jobs.wait(job.id, timeout_s=300, watch=show)
        if job.status != "completed":
            raise DemoFailed(f"The training job {job.id} is {job.status}: {job.error.message if job.error else ''}")
        self._job = job
        return f"{job.progress.epoch} epochs, validation accuracy {job.metrics['accuracy']:.3f}"

    def _registry(self, progress: ProgressLines) -> str:
        versions = self.client.models.versions(self._job.model_id)
        self._version: ModelVersion = next(found for found in versions if found.id == self._job.model_version_id)
        files = ", ".join(artifact.path for artifact in self._version.artifacts)
        return f"version {self._version.version}: {files}"

    def _deploy(self, progress: ProgressLines) -> str:
        try:
            deployment = self.client.deployments.deploy(
                project_id=self._project_id, name="digits", model="digits", version=self._version.version
            )
        except Conflict:
            deployments = self.client.deployments.list(project_id=self._project_id)
            same = next(found for found in deployments if (found.name, found.environment) == ("digits", "production"))
            deployment = self.client.deployments.update(same.id, version=self._version.version)
        self._deployment: Deployment = self.client.deployments.wait_until_ready(deployment.id, timeout_s=30)
        return f"{self._deployment.endpoint} on {self._deployment.replicas} replica(s)"

    def _predict(self, progress: ProgressLines) -> str:
        rows, labels = self.digits.held_out, (self._version.signature or {})["labels"]
        endpoint = self._deployment.endpoint
        key = self.client.api_keys.create(name="demo", project_id=self._project_id)
        self._requests = self.client.deployments.metrics(self._deployment.id)["requests"] + 3
        with Client(self.client.base_url, api_key=key.key) as keyed:
            by_list = self.client.endpoints.predict(endpoint, rows).predictions
            named = [dict(zip(self.digits.columns, row, strict=True)) for row in rows]
            by_name = keyed.endpoints.predict(endpoint, named).predictions
            tensor = {"name": "input", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": rows}
            answer = keyed.endpoints.infer(endpoint, [tensor])
        self.client.api_keys.revoke(key.id)
        flat = answer["outputs"][0]["data"]
        by_tensor = [flat[start : start + len(labels)] for start in range(0, len(flat), len(labels))]
        accuracies = {round(self.digits.accuracy(found, labels), 4) for found in (by_list, by_name, by_tensor)}
        if len(accuracies) != 1 or min(accuracies) < LEAST_ACCURACY:
            raise DemoFailed(f"The held-out accuracy is {sorted(accuracies)}, less than {LEAST_ACCURACY}.")
        return f"{len(rows)} held-out rows, three ways, accuracy {accuracies.pop():.4f}"

    def _metrics(self, progress: ProgressLines) -> str:
        # Each model server writes its counts twice a second.
        deadline = time.monotonic() + METRICS_WITHIN_S
        while (metrics := self.client.deployments.metrics(self._deployment.id))["requests"] < self._requests:
            if time.monotonic() > deadline:
                raise DemoFailed(f"The metrics show {metrics['requests']} requests, fewer than were sent.")
            time.sleep(0.1)
        latency = metrics["latency_ms"]
        return f"{metrics['requests']} requests, {metrics['errors']} errors, p50 {latency['p50']:.1f} ms"


def demo(
    project: Annotated[str, typer.Option(help="Project to work in; made when missing.")] = "demo",
) -> None:
    """Take a real dataset to a served model, and show each step."""
    console = Console()
    with Client.from_home(Settings().home) as client:
        job = Demo(client=client, project=project)
        with ProgressLines(console) as progress:
            job.run(progress)
        table = Table("step", "result")
        for step, result in job.seen.items():
            table.add_row(step, result)
        console.print(table)
        for path in ("/console", "/api/docs"):
            console.print(f"{client.base_url}{path}")
