"""What a tabular network predicts: a class, or a number."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn.functional import cross_entropy, mse_loss

from .tabular_encoder import plain_column

Label = str | int | float | bool
Weights = dict[str, npt.NDArray[np.float32]]
Sums = dict[str, float]


class Objective(Protocol):
    """How a network's scores, of shape [rows, ``width``], are judged and read; it must pickle."""

    @property
    def width(self) -> int:
        """Scores per row."""
        ...

    @property
    def output(self) -> str:
        """Name of the written network's output."""
        ...

    @property
    def labels(self) -> list[Label] | None:
        """What the columns of the output stand for."""
        ...

    def loss(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what training makes small."""
        ...

    def sums(self, scores: torch.Tensor, targets: torch.Tensor) -> Sums:
        """Return sums over these rows, so that they can be added up over workers."""
        ...

    def metrics(self, held_out: Sums, seen: Sums) -> dict[str, float]:
        """Return the metrics of the sums over all rows held out and all rows seen."""
        ...

    def finish(self, weights: Weights, last_layer: str) -> Weights:
        """Return the weights with which the network answers in the user's units."""
        ...

    def answers(self, scores: torch.Tensor) -> torch.Tensor:
        """Return what the written network answers, from the scores of the finished weights."""
        ...


@dataclass(frozen=True)
class Classification:
    """One of several classes; a target is an index into the sorted labels."""

    labels: list[Label]
    output: str = "probabilities"

    @property
    def width(self) -> int:
        """One score per class."""
        return len(self.labels)

    def loss(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross entropy."""
        return cross_entropy(scores, targets)

    def sums(self, scores: torch.Tensor, targets: torch.Tensor) -> Sums:
        """Count right answers."""
        return {"right": float((scores.argmax(1) == targets).sum()), "asked": float(len(targets))}

    def metrics(self, held_out: Sums, seen: Sums) -> dict[str, float]:
        """Return the shares of right answers."""
        return {
            "accuracy": held_out["right"] / held_out["asked"],
            "train_accuracy": seen["right"] / seen["asked"],
        }

    def finish(self, weights: Weights, last_layer: str) -> Weights:
        """Change nothing."""
        return weights

    def answers(self, scores: torch.Tensor) -> torch.Tensor:
        """Return probabilities."""
        return scores.softmax(1)


@dataclass(frozen=True)
class Regression:
    """A number; a target is scaled by mean and standard deviation of the rows to train on."""

    mean: float
    deviation: float
    output: str = "prediction"
    labels: None = None

    @property
    def width(self) -> int:
        """One score."""
        return 1

    def loss(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of the scaled target."""
        return mse_loss(scores.squeeze(1), targets)

    def sums(self, scores: torch.Tensor, targets: torch.Tensor) -> Sums:
        """Add up errors, and the spread around the mean of the rows to train on, which is 0 when scaled."""
        errors = (scores.squeeze(1) - targets).double()
        return {
            "squared": float(errors.square().sum()),
            "absolute": float(errors.abs().sum()),
            "spread": float(targets.double().square().sum()),
            "asked": float(len(targets)),
        }

    def metrics(self, held_out: Sums, seen: Sums) -> dict[str, float]:
        """Return errors in the target's own unit, and R2 against the mean of the rows to train on."""
        asked = held_out["asked"]
        return {
            "rmse": self.deviation * float((held_out["squared"] / asked) ** 0.5),
            "mae": self.deviation * held_out["absolute"] / asked,
            "r2": _r2(held_out),
            "train_r2": _r2(seen),
        }

    def finish(self, weights: Weights, last_layer: str) -> Weights:
        """Put the target's scale into the last layer."""
        weight, bias = weights[f"{last_layer}.weight"], weights[f"{last_layer}.bias"]
        return weights | {
            f"{last_layer}.weight": (weight.astype(np.float64) * self.deviation).astype(np.float32),
            f"{last_layer}.bias": (bias.astype(np.float64) * self.deviation + self.mean).astype(np.float32),
        }

    def answers(self, scores: torch.Tensor) -> torch.Tensor:
        """Return one number per row."""
        return scores.squeeze(1)


def classes_of(column: pa.ChunkedArray) -> tuple[list[Label], npt.NDArray[np.int64]]:
    """Return the different values, sorted, and for each row the index of its value."""
    values = plain_column(column).combine_chunks()
    if pa.types.is_floating(values.type):
        # Both zeros are one class.
        values = pc.add(values.cast(pa.float64()), 0.0)
    classes = values.unique()
    classes = classes.take(pc.sort_indices(classes))
    targets: npt.NDArray[np.int64] = pc.index_in(values, value_set=classes).to_numpy().astype(np.int64)
    return [_label(value) for value in classes.to_pylist()], targets


def _label(value: Any) -> Label:
    if isinstance(value, str | int | float | bool):
        return value
    return str(int(value)) if isinstance(value, Decimal) and value == value.to_integral_value() else str(value)


def _r2(sums: Sums) -> float:
    return 1.0 - sums["squared"] / sums["spread"] if sums["spread"] else 0.0
