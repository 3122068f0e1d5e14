"""`raymill demo`: the main job with a real table.

The data are the optical digits of the UCI repository (1,797 rows, 64 features) that scikit-learn carries.
"""

import csv
import io
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from ..kernel.settings import Settings
from ..sdk import Client
from ..sdk.predict import most_probable
from .main_job import MainJob, StepFailed, Training

Rows = list[list[float]]

TRAINING = {"epochs": 30, "batch_size": 64, "learning_rate": 2e-3, "hidden_sizes": [64], "seed": 7}
LEAST_ACCURACY = 0.95


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
        guesses = most_probable(probabilities, labels)
        right = sum(bool(guess == label) for guess, label in zip(guesses, self.held_out_labels, strict=True))
        return right / len(self.held_out_labels)


@dataclass
class Demo(MainJob):
    """The main job with the digits."""

    digits: Digits = field(kw_only=True)

    def training(self) -> Training:
        """Ask for classes."""
        return Training("tabular-classifier", {"target": "digit", **TRAINING})

    def predict_held_out(self) -> str:
        """Predict in three ways, with a login and with an API key."""
        rows, labels = self.digits.held_out, (self.version.signature or {})["labels"]
        key = self.client.api_keys.create(name="demo", project_id=self.project_id)
        with Client(self.client.base_url, api_key=key.key) as keyed:
            by_list = self.predict(self.client, rows)
            by_name = self.predict(keyed, [dict(zip(self.digits.columns, row, strict=True)) for row in rows])
            by_tensor = self._infer(keyed, rows, len(labels))
        self.client.api_keys.revoke(key.id)
        accuracies = {round(self.digits.accuracy(found, labels), 4) for found in (by_list, by_name, by_tensor)}
        if len(accuracies) != 1 or min(accuracies) < LEAST_ACCURACY:
            raise StepFailed(f"The held-out accuracy is {sorted(accuracies)}, less than {LEAST_ACCURACY}.")
        return f"{len(rows)} held-out rows, three ways, accuracy {accuracies.pop():.4f}"

    def _infer(self, client: Client, rows: Rows, classes: int) -> Rows:
        tensor = {"name": "input", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": rows}
        flat = client.endpoints.infer(self.deployment.endpoint, [tensor])["outputs"][0]["data"]
        self.requests += 1
        return [flat[start : start + classes] for start in range(0, len(flat), classes)]


def demo(
    project: Annotated[str, typer.Option(help="Project to work in; made when missing.")] = "demo",
) -> None:
    """Take a real dataset to a served model, and show each step."""
    digits = Digits.load()
    with Client.from_home(Settings().home) as client:
        Demo(client, project, "digits", digits.csv(), "digits.csv", digits=digits).run_and_show()
        for path in ("/console", "/api/docs"):
            typer.echo(f"{client.base_url}{path}")
