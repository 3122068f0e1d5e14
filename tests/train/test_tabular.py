"""From a table to features, targets and the rows held out."""

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import mixed_rows, with_targets

from raymill.train.errors import UnsuitableDataset
from raymill.train.trainers.columns import Task
from raymill.train.trainers.objectives import Regression
from raymill.train.trainers.split import held_out_count, shuffled_rows
from raymill.train.trainers.tabular import TabularProblem, read_problem


def problem(
    rows: int = 10, *, share: float = 0.2, seed: int = 0, task: Task = "classification", **table: Any
) -> TabularProblem:
    columns = {"n": np.arange(rows), "half": np.arange(rows) / 2, "y": ["ab"[n % 2] for n in range(rows)]} | table
    return read_problem(pa.table(columns), target="y", held_out_share=share, seed=seed, task=task)


@given(st.integers(10, 60), st.integers(1, 7), st.floats(0.01, 0.5))
def test_shards_are_disjoint_and_cover_every_row(rows: int, count: int, share: float) -> None:
    shards = problem(rows, share=share).shards(count)
    sizes = [shard.num_rows for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    seen = np.concatenate([np.stack(shard["features"].to_pylist())[:, 0] for shard in shards if shard.num_rows])
    assert sorted(seen) == list(range(rows))
    held_out = sum(int(np.sum(shard["held_out"].to_numpy())) for shard in shards)
    assert held_out == max(1, round(rows * share))


def test_the_seed_decides_the_rows_held_out() -> None:
    first, again, other = problem(50, seed=1), problem(50, seed=1), problem(50, seed=2)
    assert np.array_equal(first.features[first.held_out], again.features[again.held_out])
    assert not np.array_equal(first.features[first.held_out], other.features[other.held_out])


def test_others_find_the_rows_held_out_again() -> None:
    read = problem(50, seed=4, share=0.1)
    held_out = shuffled_rows(50, seed=4)[: held_out_count(50, 0.1)]
    assert read.features[read.held_out][:, 0].tolist() == held_out.tolist()


def test_numbers_alone_are_one_matrix_as_it_is() -> None:
    read = problem(20)
    assert read.encoder.inputs() == [{"name": "input", "datatype": "FP32", "shape": [-1, 2], "columns": ["n", "half"]}]
    assert np.array_equal(read.features, read.encoder.feeds(read.sample)["input"])
    assert [read.objective.labels[target] for target in read.targets] == [  # type: ignore[index]
        "ab"[int(row[0]) % 2] for row in read.features
    ]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array(["b", "ä"] * 5), ["b", "ä"]),
        (pa.array(["b", "a"] * 5).dictionary_encode(), ["a", "b"]),
        (pa.array([10, 2] * 5), [2, 10]),
        (pa.array([True, False] * 5), [False, True]),
        (pa.array([1.5, 0.5] * 5), [0.5, 1.5]),
        (pa.array([Decimal("1.50"), Decimal("3.00")] * 5), ["1.50", "3"]),
        (pa.array([1, 0] * 5, pa.date32()), ["1970-01-01", "1970-01-02"]),
    ],
)
def test_labels_of_any_type_come_back(values: pa.Array, labels: list[Any]) -> None:
    assert problem(y=values).objective.labels == labels


def test_scaling_comes_from_the_rows_to_train_on_alone() -> None:
    read = problem(10, constant=np.full(10, 7.0))
    mean, deviation = read.scaling()
    trained = read.features[~read.held_out]
    assert mean == pytest.approx(trained.mean(axis=0))
    assert deviation == pytest.approx([*trained[:, :2].std(axis=0), 1.0])


def test_a_number_to_predict_is_scaled_by_the_rows_to_train_on() -> None:
    values = np.arange(20) * 1000.0 + 5e6
    read = problem(20, y=values, task="regression")
    trained = values[shuffled_rows(20, seed=0)][~read.held_out]
    assert read.objective == Regression(mean=float(trained.mean()), deviation=float(trained.std()))
    assert read.targets[~read.held_out].mean() == pytest.approx(0, abs=1e-6)
    assert read.objective.labels is None


def test_a_gap_is_filled_with_the_mean_of_the_rows_to_train_on() -> None:
    ages = pa.array([None, *range(1, 20)], pa.int64())
    read = problem(20, age=ages)
    column = read.encoder.numbers.index("age")
    gap = read.encoder.feeds(read.sample)["input"][:, column]
    assert np.isnan(gap).sum() == 1
    known = gap[~read.held_out & ~np.isnan(gap)]
    assert read.features[np.isnan(gap), column] == pytest.approx([known.mean()])
    assert read.encoder.inputs()[0]["nullable"] == ["age"]


@pytest.mark.parametrize(
    ("values", "days"),
    [
        (pa.array([dt.date(1970, 1, 2)] * 10), 1.0),
        (pa.array([dt.datetime(1970, 1, 2, 12)] * 10, pa.timestamp("s")), 1.5),
        (pa.array([dt.datetime(1970, 1, 2, 12)] * 10, pa.timestamp("ns")), 1.5),
        (pa.array([dt.datetime(1970, 1, 2, 12, tzinfo=dt.UTC)] * 10, pa.timestamp("us", "Europe/Berlin")), 1.5),
        (pa.array([dt.datetime(1969, 12, 31)] * 10, pa.date64()), -1.0),
        (pa.array([dt.time(6)] * 10, pa.time32("s")), 0.25),
        (pa.array([dt.time(6)] * 10, pa.time64("ns")), 0.25),
    ],
)
def test_dates_and_times_are_days(values: pa.Array, days: float) -> None:
    read = problem(when=values)
    assert read.encoder.feeds(read.sample)["dates"].tolist() == [[days]] * 10
    assert read.encoder.inputs()[1]["encoding"] == "days"


def test_moments_close_to_each_other_are_told_apart() -> None:
    start = dt.datetime(2024, 5, 1, 12)
    moments = pa.array([start + dt.timedelta(seconds=number) for number in range(10)], pa.timestamp("us"))
    assert len(np.unique(problem(when=moments).features[:, 2])) == 10


def test_texts_become_one_number_per_frequent_value() -> None:
    words = [f"w{number % 130}" if number < 260 else "often" for number in range(400)]
    read = problem(400, share=0.001, word=words)
    values = read.encoder.categories["word"]
    assert len(values) == 100
    assert "often" in values
    hot = read.features[:, 2:]
    assert set(hot.sum(axis=1)) == {0.0, 1.0}
    written = read.sample["word"].to_pylist()
    assert all(values[row.argmax()] == word for row, word in zip(hot, written, strict=True) if row.any())


def test_an_empty_text_is_a_value_of_its_own() -> None:
    read = problem(20, word=["a", None] * 10)
    assert read.encoder.categories == {"word": ["", "a"]}
    assert set(read.encoder.feeds(read.sample)["categories"][:, 0]) == {"", "a"}


def test_what_is_left_out_is_said() -> None:
    table = with_targets(mixed_rows())
    read = read_problem(table, target="kind", held_out_share=0.1, seed=0, task="classification")
    assert set(read.left_out) == {"key", "same"}
    assert read.encoder.columns == ["size", "age", "member", "price", "day", "at", "clock", "city"]
    assert read.encoder.nullable == ["city", "age", "day"]


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"n": [[1]] * 10}, "'n' is of type list"),
        ({"n": [float("inf"), *range(9)]}, "'n' has NaN, inf"),
        ({"n": [1e300, *range(9)]}, "'n' has NaN, infinities or numbers too large"),
        ({"y": [None, *"ababababa"]}, "'y' has 1 empty"),
    ],
)
def test_unsuitable_columns_are_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsuitableDataset, match=named):
        problem(**table)
