"""What the driver gives a trainer, and what it gets back."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..schemas import ResourceRequirements

# Called by the first worker after each epoch, with the epoch counted from 1; it must pickle.
Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainingTask:
    """One training: the table, the trainer's own parameters, and a folder for what it writes."""

    name: str
    table: pa.Table
    parameters: Any
    resources: ResourceRequirements
    folder: Path
    report: Report


@dataclass(frozen=True)
class File:
    """A file for the registry: its type there and where it lies here; its name there is its name here."""

    type: str
    path: Path


@dataclass(frozen=True)
class TrainedModel:
    """What a training made; the signature is a document as the registry keeps it."""

    signature: dict[str, Any]
    metrics: dict[str, float]
    files: list[File]


def say(line: str) -> None:
    """Write a line into the job's log at once; ``print`` is patched inside of Ray Train and would write it twice."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
