"""Statistics of a table, gathered batch by batch in bounded memory.

Means and variances are merged by the parallel form of Welford's algorithm (Chan, Golub and LeVeque, 1979). Distinct
values are counted by the k smallest of their 64-bit hashes (Bar-Yossef et al., 2002): exact up to k, else within about
1 / sqrt(k) = 0.8 %. Frequent values are exact in a column of at most ``_TOP_PER_BATCH`` values, else lower bounds.
"""

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_SMALLEST_KEPT = 16_384
_TOP_PER_BATCH = 1_000
_TOP_KEPT = 10_000
_TOP_SHOWN = 10
_TOP_LENGTH = 100
_MAX_COMPARED_ROWS = 2_000_000
_NULL_HASH = np.uint64(0x9E3779B97F4A7C15)


class TableProfile:
    """What is known of a table after some of its batches."""

    def __init__(self, schema: pa.Schema) -> None:
        self.row_count = 0
        self._schema = schema
        self._columns = [ColumnProfile(field.type) for field in schema]
        self._row_hashes: list[Hashes] | None = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in one batch."""
        self.row_count += batch.num_rows
        hashes = [profile.add(column) for profile, column in zip(self._columns, batch.columns, strict=True)]
        known = [one for one in hashes if one is not None]
        if self._row_hashes is None or self.row_count > _MAX_COMPARED_ROWS or len(known) < len(hashes):
            self._row_hashes = None
            return
        rows = np.zeros(batch.num_rows, dtype=np.uint64)
        for one in known:
            rows = _mix(rows * np.uint64(31) + one)
        self._row_hashes.append(rows)

    def schema(self) -> list[dict[str, Any]]:
        """Return name, Arrow type and nullability of each column."""
        return [{"name": field.name, "type": str(field.type), "nullable": field.nullable} for field in self._schema]

    def statistics(self) -> dict[str, Any]:
        """Return the statistics of each column as JSON values."""
        names = self._schema.names
        return {"columns": {name: profile.read() for name, profile in zip(names, self._columns, strict=True)}}

    def quality(self) -> dict[str, Any]:
        """Return the share of empty cells and the number of rows that repeat an earlier one."""
        cells = self.row_count * len(self._columns)
        nulls = sum(profile.nulls for profile in self._columns)
        return {"null_share": nulls / cells if cells else 0.0, "duplicate_rows": self._duplicates()}

    def _duplicates(self) -> int | None:
        if self._row_hashes is None:
            return None
        different = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *self._row_hashes]))
        return self.row_count - len(different)


class ColumnProfile:
    """What is known of one column."""

    def __init__(self, type_: pa.DataType) -> None:
        self._type = type_
        self.count = 0
        self.nulls = 0
        self._distinct: DistinctSketch | None = DistinctSketch()
        self._moments = Moments() if _is_number(type_) else None
        self._span = Moments() if pa.types.is_temporal(type_) and not pa.types.is_interval(type_) else None
        self._top: Counter[str] | None = Counter() if _has_top(type_) else None

    def add(self, values: pa.Array) -> Hashes | None:
        """Take in one batch and return a hash of each value; None where the type cannot be compared."""
        self.nulls += values.null_count
        self.count += len(values) - values.null_count
        present = values.drop_null()
        if self._moments is not None:
            self._moments.add(_numbers(present))
        if self._span is not None:
            self._span.add(present.view(_same_width(self._type)).to_numpy())
        return self._compare(values)

    def read(self) -> dict[str, Any]:
        """Return the statistics as JSON values."""
        found: dict[str, Any] = {"count": self.count, "nulls": self.nulls}
        if self._distinct is not None:
            found |= {"distinct": self._distinct.count(), "distinct_exact": self._distinct.exact}
        if self._moments is not None:
            found |= self._moments.read()
        if self._span is not None:
            found |= {"min": self._moment(self._span.min), "max": self._moment(self._span.max)}
        if self._top is not None:
            found["top"] = [{"value": value, "count": count} for value, count in self._top.most_common(_TOP_SHOWN)]
        return found

    def _compare(self, values: pa.Array) -> Hashes | None:
        if pa.types.is_floating(values.type):
            values = one_zero(values)
        try:
            encoded = values if pa.types.is_dictionary(values.type) else pc.dictionary_encode(values)
            words = encoded.dictionary if _is_number(encoded.dictionary.type) else encoded.dictionary.cast(pa.string())
        except pa.ArrowException:
            # Lists, structs and bytes that are no text: Arrow cannot compare or show them.
            self._distinct = self._top = None
            return None
        hashes = _hash(words)
        codes = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
        seen = np.bincount(codes, minlength=len(words))[: len(words)]
        if self._distinct is not None:
            self._distinct.add(hashes[seen > 0])
        if self._top is not None:
            self._count_top(words, seen)
        by_code: Hashes = np.append(hashes, _NULL_HASH)[codes]
        return by_code

    def _count_top(self, words: pa.Array, seen: NDArray[np.int64]) -> None:
        for code in np.argsort(-seen, kind="stable")[:_TOP_PER_BATCH]:
            # PostgreSQL's JSON cannot hold the character 0.
            word = str(words[int(code)].as_py())[:_TOP_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}")
            if self._top is not None and seen[code]:
                self._top[word] += int(seen[code])
        if self._top is not None and len(self._top) > _TOP_KEPT:
            self._top = Counter(dict(self._top.most_common(_TOP_KEPT // 2)))

    def _moment(self, value: int | float | None) -> str | None:
        if value is None:
            return None
        shown: str = pa.array([value], _same_width(self._type)).view(self._type).cast(pa.string())[0].as_py()
        return shown


def one_zero(numbers: pa.Array) -> pa.Array:
    """Drop the sign of negative zeros, which equal zero and have other bytes; float16 becomes float32."""
    wide = numbers.cast(pa.float32()) if pa.types.is_float16(numbers.type) else numbers
    return pc.add(wide, pa.scalar(0.0, wide.type))


class Moments:
    """Extremes, mean and variance of the finite values of a column."""

    def __init__(self) -> None:
        self.min: int | float | None = None
        self.max: int | float | None = None
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._non_finite = 0

    def add(self, numbers: NDArray[Any]) -> None:
        """Take in one batch without nulls."""
        finite = numbers[np.isfinite(numbers)]
        self._non_finite += len(numbers) - len(finite)
        if len(finite) == 0:
            return
        low, high = finite.min().item(), finite.max().item()
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)
        with np.errstate(over="ignore", invalid="ignore"):
            self._merge(finite.astype(np.float64))

    def read(self) -> dict[str, Any]:
        """Return the figures as JSON values; the deviation is that of a sample, as pandas gives it."""
        std = math.sqrt(self._squares / (self._count - 1)) if self._count > 1 else None
        mean = self._mean if self._count else None
        figures = {"min": self.min, "max": self.max, "mean": mean, "std": std, "non_finite": self._non_finite}
        return {key: value if value is None or math.isfinite(value) else None for key, value in figures.items()}

    def _merge(self, values: NDArray[np.float64]) -> None:
        mean = float(values.mean())
        delta, total = mean - self._mean, self._count + len(values)
        self._squares += float(np.square(values - mean).sum()) + delta * delta * self._count * len(values) / total
        self._mean += delta * len(values) / total
        self._count = total


class DistinctSketch:
    """Counts different hashes by keeping only the smallest."""

    def __init__(self) -> None:
        self._smallest: Hashes = np.empty(0, dtype=np.uint64)
        self.exact = True

    def add(self, hashes: Hashes) -> None:
        """Take in some hashes."""
        merged = np.union1d(self._smallest, hashes)
        self.exact = self.exact and len(merged) <= _SMALLEST_KEPT
        self._smallest = merged[:_SMALLEST_KEPT]

    def count(self) -> int:
        """Return how many different hashes there were, or the estimate."""
        if self.exact:
            return len(self._smallest)
        return round((_SMALLEST_KEPT - 1) / (float(self._smallest[-1]) / 2**64))


def _hash(words: pa.Array) -> Hashes:
    hashes: Hashes = pd.util.hash_array(words.to_numpy(zero_copy_only=False), categorize=False)
    return hashes


def _mix(values: Hashes) -> Hashes:
    """Spread the bits (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def _has_top(type_: pa.DataType) -> bool:
    held = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_boolean(held))


def _numbers(values: pa.Array) -> NDArray[Any]:
    numbers: NDArray[Any] = (values.cast(pa.float64()) if pa.types.is_decimal(values.type) else values).to_numpy(
        zero_copy_only=False
    )
    return numbers


def _same_width(type_: pa.DataType) -> pa.DataType:
    return pa.int64() if type_.bit_width == 64 else pa.int32()
