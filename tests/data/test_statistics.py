"""Statistics against pandas, over any division into batches."""

import datetime as dt
import math
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raymill.data.schemas import DataStatistics
from raymill.data.statistics import TableProfile

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


def profile(table: pa.Table, batch_rows: int = 1000) -> TableProfile:
    made = TableProfile(table.schema)
    for batch in table.to_batches(max_chunksize=batch_rows):
        made.add(batch)
    return made


def column(values: object, type_: pa.DataType | None = None) -> dict[str, object]:
    found: dict[str, object] = profile(pa.table({"a": pa.array(values, type_)})).statistics()["columns"]["a"]
    DataStatistics.model_validate({"columns": {"a": found}})
    return found


@example([0.0, -0.0], 1)
@given(st.lists(st.none() | NUMBERS, min_size=1, max_size=200), st.integers(1, 50))
def test_numbers_agree_with_pandas(values: list[float | None], batch_rows: int) -> None:
    series = pd.Series(values, dtype="float64")
    found = profile(pa.table({"a": pa.array(values, pa.float64())}), batch_rows).statistics()["columns"]["a"]
    assert (found["count"], found["nulls"], found["distinct"]) == (
        series.count(),
        series.isna().sum(),
        series.nunique(),
    )
    if series.count() > 1:
        expected = (series.min(), series.max(), series.mean(), series.std())
        assert (found["min"], found["max"]) == expected[:2]
        assert found["mean"] == pytest.approx(expected[2], rel=1e-9, abs=1e-6)
        assert found["std"] == pytest.approx(expected[3], rel=1e-6, abs=1e-5)


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.sampled_from("xyz")), max_size=100), st.integers(1, 30))
def test_duplicate_rows_agree_with_pandas(rows: list[tuple[int, str | None]], batch_rows: int) -> None:
    frame = pd.DataFrame(rows, columns=["a", "b"])
    table = pa.table(
        {"a": pa.array([a for a, _ in rows], pa.int64()), "b": pa.array([b for _, b in rows], pa.string())}
    )
    assert profile(table, batch_rows).quality()["duplicate_rows"] == frame.duplicated().sum()


def test_columns_that_swap_values_make_no_duplicate() -> None:
    assert profile(pa.table({"a": [1, 2], "b": [2, 1]})).quality() == {"null_share": 0.0, "duplicate_rows": 0}


def test_frequent_values_come_first() -> None:
    found = column(["b", "a", "b", None, "c\0"])
    assert found["top"][0] == {"value": "b", "count": 2}  # type: ignore[index]
    assert {"value": "c\N{REPLACEMENT CHARACTER}", "count": 1} in found["top"]  # type: ignore[operator]


def test_booleans_are_counted() -> None:
    assert column([True, True, False])["top"] == [{"value": "true", "count": 2}, {"value": "false", "count": 1}]


def test_values_that_json_cannot_hold_are_counted_apart() -> None:
    found = column([1.0, math.nan, math.inf, -math.inf, None])
    assert (found["count"], found["nulls"], found["non_finite"], found["max"], found["mean"]) == (4, 1, 3, 1.0, 1.0)


def test_a_mean_beyond_the_range_of_doubles_is_left_out() -> None:
    assert column([1.7e308, 1.7e308])["mean"] is None


def test_whole_numbers_stay_whole() -> None:
    assert column([2**62 + 1])["max"] == 2**62 + 1


def test_decimals_have_moments() -> None:
    assert column([Decimal("1.50"), Decimal("2.50")])["mean"] == 2.0


@pytest.mark.parametrize(
    ("values", "type_", "low"),
    [
        ([dt.date(2021, 1, 1), dt.date(1960, 2, 3)], pa.date32(), "1960-02-03"),
        ([dt.datetime(2021, 1, 1), dt.datetime(1960, 2, 3)], pa.timestamp("us"), "1960-02-03 00:00:00.000000"),
        ([dt.time(9), dt.time(8)], pa.time32("s"), "08:00:00"),
        ([dt.timedelta(2), dt.timedelta(1)], pa.duration("s"), "86400"),
    ],
)
def test_moments_in_time_have_extremes(values: list[object], type_: pa.DataType, low: str) -> None:
    assert column(values, type_)["min"] == low


def test_nested_values_are_only_counted() -> None:
    made = profile(pa.table({"a": [[1], None, [1]]}))
    found = made.statistics()["columns"]["a"]
    assert (found["count"], found["nulls"], found.get("distinct")) == (2, 1, None)
    assert made.quality()["duplicate_rows"] is None


def test_dictionaries_are_read_as_their_values() -> None:
    found = column(pa.array(["x", "y", "x"]).dictionary_encode())
    assert (found["distinct"], found["top"][0]) == (2, {"value": "x", "count": 2})  # type: ignore[index]


def test_many_distinct_values_are_estimated() -> None:
    made = profile(pa.table({"a": pa.array(range(200_000)), "b": pa.array([str(n) for n in range(200_000)])}), 20_000)
    for found in made.statistics()["columns"].values():
        assert not found["distinct_exact"]
        assert found["distinct"] == pytest.approx(200_000, rel=0.05)


def test_no_rows_have_no_figures() -> None:
    found = column([], pa.float64())
    assert (found["count"], found["mean"], found["distinct"]) == (0, None, 0)
