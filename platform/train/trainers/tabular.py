"""From an Arrow table to what a network learns: encoded features, targets, and the rows that are held out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .columns import ColumnFacts, Task, plan_columns
from .objectives import Classification, Objective, Regression, classes_of
from .split import held_out_count, shuffled_rows
from .tabular_encoder import TableEncoder, number_column

_SAMPLED_ROWS = 1024


@dataclass(frozen=True)
class TabularProblem:
    """A table to learn from.

    Attributes:
        sample: Raw rows of the first examples.
        encoder: From raw columns to features.
        objective: What is predicted.
        left_out: Columns that are not learned from, and why.
        features: float32, one row per example.
        targets: What the objective compares with, one per example.
        held_out: Whether the example is for validation only.
    """

    sample: pa.Table
    encoder: TableEncoder
    objective: Objective
    left_out: dict[str, str]
    features: npt.NDArray[np.float32]
    targets: npt.NDArray[Any]
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


def read_problem(table: pa.Table, *, target: str, held_out_share: float, seed: int, task: Task) -> TabularProblem:
    """Read a table, in an order that the seed decides, and hold a share of its rows out.

    Raises:
        UnsuitableDataset: If it cannot be learned from; names the column.
    """
    rows = table.num_rows
    plan = plan_columns(target, facts_of(table), row_count=rows, task=task)
    shuffled = table.take(shuffled_rows(rows, seed=seed))
    held_out = np.zeros(rows, dtype=np.bool_)
    held_out[: held_out_count(rows, held_out_share)] = True
    encoder = TableEncoder.fit(shuffled.filter(pa.array(~held_out)), plan)
    objective, targets = _objective(shuffled[target], target, held_out, task)
    return TabularProblem(
        # Copied: a slice would keep the whole table in memory.
        sample=shuffled.take(np.arange(min(rows, _SAMPLED_ROWS))),
        encoder=encoder,
        objective=objective,
        left_out=plan.left_out,
        features=encoder.encode(shuffled),
        targets=targets,
        held_out=held_out,
    )


def facts_of(table: pa.Table) -> list[ColumnFacts]:
    """Return what the plan asks of each column."""
    return [_facts(name, table[name]) for name in table.column_names]


def _facts(name: str, column: pa.ChunkedArray) -> ColumnFacts:
    known = {"count": len(column) - column.null_count, "nulls": column.null_count}
    figures = ColumnFacts(name, str(column.type), distinct=None, **known)
    if figures.role is None:
        return figures
    plain = pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column
    distinct = pc.count_distinct(plain, mode="only_valid").as_py()
    if not pa.types.is_integer(plain.type):
        return ColumnFacts(name, figures.type, distinct=distinct, **known)
    extremes = pc.min_max(plain)
    return ColumnFacts(
        name, figures.type, distinct=distinct, low=extremes["min"].as_py(), high=extremes["max"].as_py(), **known
    )


def _objective(
    column: pa.ChunkedArray, name: str, held_out: npt.NDArray[np.bool_], task: Task
) -> tuple[Objective, npt.NDArray[Any]]:
    if task == "classification":
        labels, targets = classes_of(column)
        return Classification(labels), targets
    numbers = number_column(column, name).astype(np.float64)
    seen = numbers[~held_out]
    regression = Regression(mean=float(seen.mean()), deviation=float(seen.std()) or 1.0)
    return regression, ((numbers - regression.mean) / regression.deviation).astype(np.float32)
