"""From raw columns to the numbers that a network takes; the same steps are written into its ONNX file.

Numbers stay as they are. Dates and times become days since 1970-01-01 UTC (times of day: fractions of a day) less the
column's mean. Texts become one number per frequent value (one-hot). Empty numbers and dates get the column's mean, an
empty text counts as the value "".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UnsuitableDataset
from .columns import MAX_CATEGORIES, Plan, Role

Floats = npt.NDArray[np.float32]
Days = npt.NDArray[np.float64]

NUMBERS, MOMENTS, CATEGORIES = "input", "dates", "categories"
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class TableEncoder:
    """What was learned of the raw columns.

    Attributes:
        numbers: Columns of numbers.
        moments: Columns of dates and times.
        categories: Columns of texts, each with the values that are told apart.
        nullable: Columns that may be empty.
        origins: For each of ``moments`` the day that is 0 to the network.
        fill: For each of ``numbers`` and then of ``moments`` what stands for an empty cell.
    """

    numbers: list[str]
    moments: list[str]
    categories: dict[str, list[str]]
    nullable: list[str]
    origins: Days
    fill: Floats

    @classmethod
    def fit(cls, table: pa.Table, plan: Plan) -> "TableEncoder":
        """Learn from the rows to train on."""
        numbers, moments = plan.names(Role.NUMBER), plan.names(Role.MOMENT)
        days = _stack([moment_column(table[name]) for name in moments], table.num_rows, np.float64)
        means = _means(_stack([number_column(table[name], name) for name in numbers], table.num_rows, np.float32))
        return cls(
            numbers=numbers,
            moments=moments,
            categories={name: _frequent(text_column(table[name])) for name in plan.names(Role.CATEGORY)},
            nullable=[feature.name for feature in plan.features if feature.nullable],
            origins=_means(days),
            fill=np.concatenate([means.astype(np.float32), np.zeros(len(moments), dtype=np.float32)]),
        )

    @property
    def columns(self) -> list[str]:
        """All columns that the network takes."""
        return [*self.numbers, *self.moments, *self.categories]

    @property
    def has_gaps(self) -> bool:
        """Whether a number or a moment may be empty."""
        return not set(self.nullable).isdisjoint([*self.numbers, *self.moments])

    def encode(self, table: pa.Table) -> Floats:
        """Return float32 [rows, width]."""
        feeds = self._numeric_feeds(table)
        parts = [feeds[NUMBERS]] if NUMBERS in feeds else []
        if MOMENTS in feeds:
            parts.append((feeds[MOMENTS] - self.origins).astype(np.float32))
        raw = np.concatenate(parts, axis=1) if parts else np.empty((table.num_rows, 0), dtype=np.float32)
        filled = np.where(np.isnan(raw), self.fill, raw)
        hot = [_one_hot(text_column(table[name]), values) for name, values in self.categories.items()]
        return np.ascontiguousarray(np.concatenate([filled, *hot], axis=1), dtype=np.float32)

    def feeds(self, table: pa.Table) -> dict[str, npt.NDArray[Any]]:
        """Return the network's inputs as a client sends them, NaN for what is empty."""
        feeds = self._numeric_feeds(table)
        if self.categories:
            words = [text_column(table[name]).to_numpy().astype(object) for name in self.categories]
            feeds[CATEGORIES] = np.stack(words, axis=1)
        return feeds

    def _numeric_feeds(self, table: pa.Table) -> dict[str, npt.NDArray[Any]]:
        feeds: dict[str, npt.NDArray[Any]] = {}
        if self.numbers:
            feeds[NUMBERS] = np.stack([number_column(table[name], name) for name in self.numbers], axis=1)
        if self.moments:
            feeds[MOMENTS] = np.stack([moment_column(table[name]) for name in self.moments], axis=1)
        return feeds

    def inputs(self) -> list[dict[str, Any]]:
        """Describe the inputs for a signature."""
        given = [
            (NUMBERS, "FP32", self.numbers),
            (MOMENTS, "FP64", self.moments),
            (CATEGORIES, "BYTES", list(self.categories)),
        ]
        return [self._input(name, datatype, columns) for name, datatype, columns in given if columns]

    def typical_row(self, table: pa.Table) -> dict[str, Any]:
        """Return a row as ``predict`` takes it: each column's median or most frequent text, so it is nobody's row."""
        typical = {name: _middle(plain_column(table[name])) for name in [*self.numbers, *self.moments]}
        return typical | {name: _most_frequent(text_column(table[name])) for name in self.categories}

    def _input(self, name: str, datatype: str, columns: list[str]) -> dict[str, Any]:
        described: dict[str, Any] = {
            "name": name,
            "datatype": datatype,
            "shape": [-1, len(columns)],
            "columns": columns,
        }
        if nullable := [column for column in columns if column in self.nullable]:
            described["nullable"] = nullable
        if name == MOMENTS:
            described["encoding"] = "days"
        return described


def number_column(column: pa.ChunkedArray, name: str) -> Floats:
    """Return a column of numbers, NaN for empty cells.

    Raises:
        UnsuitableDataset: If a number is too large for float32.
    """
    plain = plain_column(column)
    if pa.types.is_decimal(plain.type):
        plain = pc.cast(plain, pa.float64())
    # A cast that checks would refuse integers beyond 2**24; rounding those is what float32 is for.
    numbers: Floats = pc.cast(plain, pa.float32(), safe=False).to_numpy()
    if np.count_nonzero(~np.isfinite(numbers)) > column.null_count:
        raise UnsuitableDataset(f"The column {name!r} has NaN, infinities or numbers too large for float32.")
    return numbers


def moment_column(column: pa.ChunkedArray) -> Days:
    """Return a column of dates or times in days, NaN for empty cells."""
    plain = plain_column(column)
    kind = plain.type
    if pa.types.is_date32(kind):
        days: Days = pc.cast(pc.cast(plain, pa.int32()), pa.float64()).to_numpy()
        return days
    fine = pa.time64("us") if pa.types.is_time(kind) else pa.timestamp("us", getattr(kind, "tz", None))
    micros: Days = pc.cast(pc.cast(pc.cast(plain, fine, safe=False), pa.int64()), pa.float64(), safe=False).to_numpy()
    return micros / _DAY_US


def text_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of texts, "" for empty cells."""
    return pc.fill_null(pc.cast(plain_column(column), pa.string()), "")


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as its values, without a dictionary."""
    return pc.cast(column, column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _stack(columns: list[npt.NDArray[Any]], rows: int, dtype: Any) -> npt.NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), dtype=dtype)


def _means(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the mean of each column's known values; 0 where a column has none among these rows."""
    known = ~np.isnan(matrix)
    sums = np.where(known, matrix, 0.0).sum(axis=0, dtype=np.float64)
    means: npt.NDArray[np.float64] = sums / np.maximum(known.sum(axis=0), 1)
    return means


def _frequent(texts: pa.ChunkedArray) -> list[str]:
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(texts).to_pylist()}
    kept = sorted(counts, key=lambda text: (-counts[text], text))[:MAX_CATEGORIES]
    return sorted(kept)


def _most_frequent(texts: pa.ChunkedArray) -> str:
    counts: dict[str, int] = {entry["values"]: entry["counts"] for entry in pc.value_counts(texts).to_pylist()}
    return min(counts, key=lambda text: (-counts[text], text))


def _middle(column: pa.ChunkedArray) -> Any:
    """Return the median of the known values as JSON writes it, the lower one of two; None where there is none."""
    known = column.drop_null().cast(_fine(column.type), safe=False)
    if not len(known):
        return None
    middle = known.take(pc.sort_indices(known))[(len(known) - 1) // 2].as_py()
    return middle.isoformat() if hasattr(middle, "isoformat") else middle


def _fine(kind: pa.DataType) -> pa.DataType:
    """Return the type of the same values that Python can hold and JSON write."""
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.time64("us") if pa.types.is_time(kind) else kind


def _one_hot(texts: pa.ChunkedArray, values: list[str]) -> Floats:
    codes = pc.fill_null(pc.index_in(texts, value_set=pa.array(values, pa.string())), -1).to_numpy()
    hot = np.zeros((len(codes), len(values)), dtype=np.float32)
    known = np.flatnonzero(codes >= 0)
    hot[known, codes[known]] = 1.0
    return hot
