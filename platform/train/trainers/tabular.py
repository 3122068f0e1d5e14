"""From an Arrow table to numbers: features, classes, and the rows that are held out."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Label = str | int | float | bool


class UnsuitableTable(ValueError):
    """Raised when the table cannot be learned from; the message names the column."""


@dataclass(frozen=True)
class TabularProblem:
    """A classification of rows of numbers.

    Attributes:
        columns: Names of the features, in their order.
        labels: The classes, sorted; a target is an index into them.
        features: float32, one row per example.
        targets: int64, one per example.
        held_out: Whether the example is for validation only.
    """

    columns: list[str]
    labels: list[Label]
    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_]

    def shards(self, count: int) -> list[pa.Table]:
        """Deal the rows out, so that shards are disjoint, cover all rows and differ by one row at most."""
        width = self.features.shape[1]
        features = pa.FixedSizeListArray.from_arrays(pa.array(self.features.ravel()), width)
        whole = pa.table({"features": features, "target": self.targets, "held_out": self.held_out})
        return [whole.take(np.arange(rank, whole.num_rows, count)) for rank in range(count)]

    def scaling(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return mean and standard deviation of the rows to train on; a constant column's deviation is 1."""
        seen = self.features[~self.held_out].astype(np.float64)
        deviation = seen.std(axis=0)
        return seen.mean(axis=0).astype(np.float32), np.where(deviation > 0, deviation, 1.0).astype(np.float32)


def read_problem(table: pa.Table, *, target: str, held_out_share: float, seed: int) -> TabularProblem:
    """Read a table, in an order that the seed decides, and hold a share of its rows out.

    Raises:
        UnsuitableTable: If a column is missing, not a number, or has gaps.
    """
    if target not in table.column_names:
        raise UnsuitableTable(f"The target column {target!r} is not in the dataset.")
    order = np.random.default_rng(seed).permutation(table.num_rows)
    shuffled = table.take(order)
    columns = [name for name in table.column_names if name != target]
    labels, targets = _classes(shuffled[target], target)
    held_out = np.zeros(table.num_rows, dtype=np.bool_)
    held_out[: max(1, round(table.num_rows * held_out_share))] = True
    if held_out.all():
        raise UnsuitableTable(f"The dataset has {table.num_rows} rows; that is too few to hold some out.")
    features = np.stack([_numbers(shuffled[name], name) for name in columns], axis=1)
    return TabularProblem(columns, labels, np.ascontiguousarray(features), targets, held_out)


def _numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float32]:
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise UnsuitableTable(f"The column {name!r} is of type {kind}; features must be numbers.")
    # A cast that checks would refuse integers beyond 2**24; rounding those is what float32 is for.
    numbers: npt.NDArray[np.float32] = pc.cast(column, pa.float32(), safe=False).to_numpy()
    if not np.isfinite(numbers).all():
        raise UnsuitableTable(f"The column {name!r} has empty cells, NaN or infinities; fill or drop them.")
    return numbers


def _classes(column: pa.ChunkedArray, name: str) -> tuple[list[Label], npt.NDArray[np.int64]]:
    if column.null_count:
        raise UnsuitableTable(f"The target column {name!r} has {column.null_count} empty cells; fill or drop them.")
    plain = pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column
    values = plain.combine_chunks()
    classes = values.unique()
    classes = classes.take(pc.sort_indices(classes))
    targets: npt.NDArray[np.int64] = pc.index_in(values, value_set=classes).to_numpy().astype(np.int64)
    return [_label(value) for value in classes.to_pylist()], targets


def _label(value: Any) -> Label:
    if isinstance(value, str | int | float | bool):
        return value
    return str(int(value)) if isinstance(value, Decimal) and value == value.to_integral_value() else str(value)
