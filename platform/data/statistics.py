"""Per-column statistics of a table, gathered batch by batch.

Mean and variance are merged by the parallel form of Welford's algorithm (Chan, Golub, LeVeque 1979). Distinct values are
counted exactly up to a bound, and reported as "at least" above it.
"""

import math
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_DISTINCT_BOUND = 10_000
_TOP = 10


class ColumnSummary:
    """The running statistics of one column."""

    def __init__(self, field: pa.Field) -> None:
        self._numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        self._type = str(field.type)
        self.name: str = field.name
        self.nulls = 0
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._min: Any = None
        self._max: Any = None
        self._values: Counter[Any] | None = Counter()

    @property
    def type(self) -> str:
        """The Arrow type's name."""
        return self._type

    def add(self, values: pa.Array) -> None:
        """Take in one batch."""
        self.nulls += values.null_count
        present = values.drop_null()
        if len(present) == 0:
            return
        self._count_values(present)
        if self._numeric:
            self._merge_moments(present)
            extremes = pc.min_max(present)
            self._min = _least(self._min, extremes["min"].as_py())
            self._max = _greatest(self._max, extremes["max"].as_py())
        else:
            self._count += len(present)

    def read(self) -> dict[str, Any]:
        """Return the statistics as JSON values."""
        summary: dict[str, Any] = {"count": self._count, "nulls": self.nulls}
        summary["distinct"] = None if self._values is None else len(self._values)
        if self._numeric and self._count:
            deviation = math.sqrt(self._squares / (self._count - 1)) if self._count > 1 else 0.0
            summary |= {"min": self._min, "max": self._max, "mean": self._mean, "std": deviation}
        elif self._values is not None:
            summary["top"] = [{"value": str(value), "count": n} for value, n in self._values.most_common(_TOP)]
        return {key: _finite(value) for key, value in summary.items()}

    def _count_values(self, present: pa.Array) -> None:
        if self._values is None:
            return
        try:
            for entry in pc.value_counts(present).to_pylist():
                self._values[entry["values"]] += entry["counts"]
        except (pa.ArrowNotImplementedError, TypeError):
            # Nested values have no equality in Arrow or no hash in Python: distinct stays unknown.
            self._values = None
            return
        if len(self._values) > _DISTINCT_BOUND:
            self._values = None

    def _merge_moments(self, present: pa.Array) -> None:
        floats = present.cast(pa.float64(), safe=False)
        count, mean = len(floats), pc.mean(floats).as_py()
        squares = pc.variance(floats).as_py() * count
        total = self._count + count
        delta = mean - self._mean
        self._squares += squares + delta * delta * self._count * count / total
        self._mean += delta * count / total
        self._count = total


class TableSummary:
    """Row count, columns and statistics of a table that is read once."""

    def __init__(self, schema: pa.Schema) -> None:
        self.row_count = 0
        self._columns = [ColumnSummary(field) for field in schema]

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in one batch."""
        self.row_count += batch.num_rows
        for summary, values in zip(self._columns, batch.columns, strict=True):
            summary.add(values)

    def columns(self) -> list[dict[str, Any]]:
        """Return name, Arrow type and nullability of each column."""
        return [{"name": c.name, "type": c.type, "nullable": c.nulls > 0} for c in self._columns]

    def statistics(self) -> dict[str, Any]:
        """Return the statistics by column name."""
        return {column.name: column.read() for column in self._columns}

    def quality(self) -> dict[str, Any]:
        """Return how complete the table is: the share of cells and the columns that hold nulls."""
        cells = self.row_count * len(self._columns)
        nulls = sum(column.nulls for column in self._columns)
        return {
            "completeness": 1.0 if cells == 0 else 1.0 - nulls / cells,
            "columns_with_nulls": [column.name for column in self._columns if column.nulls],
        }


def _least(known: Any, new: Any) -> Any:
    return new if known is None else min(known, new)


def _greatest(known: Any, new: Any) -> Any:
    return new if known is None else max(known, new)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
