"""What the driver gives a trainer, and what it gets back."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from ..schemas import ResourceRequirements

# Called by the first worker after each epoch, with the epoch counted from 1; it must pickle.
Report = Callable[[int, dict[str, float]], None]


class Checkpoints(Protocol):
    """Where a trainer keeps the state that it can go on from; it must pickle, and only the first worker uses it."""

    def last(self) -> bytes | None:
        """Return the newest state that was kept, by this process or an earlier one."""

    def offer(self, epoch: int, state: Callable[[], bytes]) -> None:
        """Keep the state after an epoch, if it is time to; returns before it is stored."""


class NoCheckpoints:
    """Keeps nothing, for a training that nobody resumes."""

    def last(self) -> bytes | None:
        """Return nothing."""
        return None

    def offer(self, epoch: int, state: Callable[[], bytes]) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class TrainingTask:
    """One training: the table, the trainer's own parameters, and a folder for what it writes.

    ``max_restarts`` says how often a worker that dies is replaced.
    """

    name: str
    table: pa.Table
    parameters: Any
    resources: ResourceRequirements
    folder: Path
    report: Report
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)
    max_restarts: int = 0


@dataclass(frozen=True)
class File:
    """A file for the registry: its type there and where it lies here; its name there is its name here."""

    type: str
    path: Path


@dataclass(frozen=True)
class TrainedModel:
    """What a training made; the signature is a document as the registry keeps it.

    The example is a row as ``predict`` takes it, of no real person or thing: whoever may call the model sees it.
    """

    signature: dict[str, Any]
    example: dict[str, Any]
    metrics: dict[str, float]
    files: list[File]


def say(line: str) -> None:
    """Write a line into the job's log at once; ``print`` is patched inside of Ray Train and would write it twice."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
