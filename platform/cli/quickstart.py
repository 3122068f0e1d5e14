"""`raymill quickstart`: the main job with the user's own file."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import ceil
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar

import typer

from ..kernel.settings import Settings
from ..sdk import Client
from ..sdk.predict import most_probable
from ..train.trainers.columns import NUMBERS, Task
from ..train.trainers.split import held_out_count, shuffled_rows
from .main_job import MainJob, Training
from .models import name_of

SEED, VALIDATION_FRACTION = 0, 0.1
KEY_LIVES = timedelta(days=30)
# Small tables are seen more often, so that each gets about as many steps of the optimiser.
_STEPS, _BATCH_SIZE, _LARGE_BATCH_SIZE, _LARGE = 1500, 64, 512, 20_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 100
_MOST_PREDICTED = 1000
_MOST_CLASSES_OF_NUMBERS = 20

Row = dict[str, Any]


@dataclass
class Quickstart(MainJob):
    """The main job with a file of the user's."""

    target: str = field(kw_only=True)
    task: Task | None = field(default=None, kw_only=True)
    epochs: int | None = field(default=None, kw_only=True)
    examples: list[tuple[Row, Any]] = field(default_factory=list, init=False)

    training_timeout_s: ClassVar[float] = 24 * 3600.0

    def training(self) -> Training:
        """Ask for classes or numbers, as the user says or the target's values suggest."""
        rows = self.dataset.row_count
        task = self.task = self.task or self._task_of_target()
        batch_size = _BATCH_SIZE if rows < _LARGE else _LARGE_BATCH_SIZE
        epochs = min(max(ceil(_STEPS * batch_size / rows), _FEWEST_EPOCHS), _MOST_EPOCHS)
        return Training(
            "tabular-classifier" if task == "classification" else "tabular-regressor",
            {
                "target": self.target,
                "epochs": self.epochs or epochs,
                "batch_size": batch_size,
                "learning_rate": 3e-3,
                "seed": SEED,
                "validation_fraction": VALIDATION_FRACTION,
            },
        )

    def _task_of_target(self) -> Task:
        types = {column.name: column.type for column in self.dataset.table_schema.columns}
        distinct = self.dataset.statistics["columns"].get(self.target, {}).get("distinct")
        return task_of(types.get(self.target, ""), distinct, self.dataset.row_count)

    def predict_held_out(self) -> str:
        """Predict the rows that the training held out, by the names of their columns."""
        rows = self._held_out_rows()
        truths = [row.pop(self.target) for row in rows]
        answers = self.predict(self.client, rows)
        if self.task == "regression":
            self.examples = list(zip(rows, answers, strict=True))
            error = sum(abs(answer - truth) for answer, truth in zip(answers, truths, strict=True)) / len(rows)
            return f"{len(rows)} held-out rows, mean absolute error {error:.4g}"
        guesses = most_probable(answers, (self.version.signature or {})["labels"])
        self.examples = list(zip(rows, guesses, strict=True))
        right = sum(str(guess) == str(truth) for guess, truth in zip(guesses, truths, strict=True))
        return f"{len(rows)} held-out rows, accuracy {right / len(rows):.4f}"

    def _held_out_rows(self) -> list[Row]:
        """Return rows as the platform read them, so that dates and numbers are what they were learned as."""
        import pyarrow.parquet as pq

        with TemporaryDirectory() as folder:
            path = Path(folder) / "table.parquet"
            self.client.datasets.download(self.dataset.dataset_id, self.dataset.version, path)
            table = pq.read_table(path)
        count = min(held_out_count(table.num_rows, VALIDATION_FRACTION), _MOST_PREDICTED)
        held_out = table.take(shuffled_rows(table.num_rows, seed=SEED)[:count])
        return [{name: _json_value(value) for name, value in row.items()} for row in held_out.to_pylist()]

    def curl(self) -> str:
        """Return a command that predicts the first of the rows with an API key of its own."""
        key = self.client.api_keys.create(
            name=f"quickstart {self.name}",
            project_id=self.project_id,
            permissions=["endpoint:invoke"],
            expires_at=datetime.now(UTC) + KEY_LIVES,
        )
        body = json.dumps({"instances": [self.examples[0][0]]}, ensure_ascii=False)
        return (
            f"curl -s {quote(f'{self.deployment.endpoint}/predict')} -H 'Content-Type: application/json' "
            f"-H {quote(f'X-API-Key: {key.key}')} -d {quote(body)}"
        )

    def closing_lines(self) -> Iterator[str]:
        """Say what to do next."""
        yield f"Endpoint: {self.deployment.endpoint}/predict"
        ignored = (self.version.signature or {}).get("ignored") or {}
        for column, reason in ignored.items():
            if column != self.target:
                yield f"Left out: {column!r}, because {reason}."
        yield f"The first held-out row is predicted as {self.examples[0][1]!r}. Ask yourself (the key lives 30 days):"
        yield self.curl()


def task_of(column_type: str, distinct: int | None, row_count: int) -> Task:
    """Choose between classes and numbers: a column of numbers with more than a few different values is the latter."""
    if not column_type.startswith(NUMBERS):
        return "classification"
    return "regression" if (distinct or 0) > min(_MOST_CLASSES_OF_NUMBERS, row_count // 2) else "classification"


def quickstart(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CSV, TSV or Parquet file.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    project: Annotated[str, typer.Option(help="Project to work in; made when missing.")] = "quickstart",
    name: Annotated[
        str | None, typer.Option(help="Name of dataset, model and endpoint; the file's unless given.")
    ] = None,
    task: Annotated[
        Task | None, typer.Option(help="What to predict; chosen by the target's values unless given.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the rows; chosen by their number.")] = None,
) -> None:
    """Take your own table to a served model, and show each step."""
    with Client.from_home(Settings().home) as client:
        job = Quickstart(
            client, project, name or name_of(file), file, file.name, target=target, task=task, epochs=epochs
        )
        job.run_and_show()
        for line in job.closing_lines():
            typer.echo(line)


def _json_value(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
