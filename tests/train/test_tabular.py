"""From a table to numbers and classes."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymill.train.trainers.tabular import TabularProblem, UnsuitableTable, read_problem


def problem(rows: int = 10, *, share: float = 0.2, seed: int = 0, **table: Any) -> TabularProblem:
    columns = {"id": np.arange(rows), "half": np.arange(rows) / 2, "y": ["ab"[n % 2] for n in range(rows)]} | table
    return read_problem(pa.table(columns), target="y", held_out_share=share, seed=seed)


@given(st.integers(2, 60), st.integers(1, 7), st.floats(0.01, 0.5))
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


def test_targets_follow_their_rows() -> None:
    read = problem(20)
    assert read.columns == ["id", "half"]
    assert [read.labels[target] for target in read.targets] == ["ab"[int(row[0]) % 2] for row in read.features]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array(["b", "a"] * 5), ["a", "b"]),
        (pa.array(["b", "a"] * 5).dictionary_encode(), ["a", "b"]),
        (pa.array([10, 2] * 5), [2, 10]),
        (pa.array([True, False] * 5), [False, True]),
        (pa.array([1.5, 0.5] * 5), [0.5, 1.5]),
        (pa.array([Decimal("1.50"), Decimal("3.00")] * 5), ["1.50", "3"]),
        (pa.array([1, 0] * 5, pa.date32()), ["1970-01-01", "1970-01-02"]),
    ],
)
def test_labels_of_any_type_come_back(values: pa.Array, labels: list[Any]) -> None:
    assert problem(y=values).labels == labels


def test_scaling_comes_from_the_rows_to_train_on_alone() -> None:
    read = problem(10, constant=np.full(10, 7.0))
    mean, deviation = read.scaling()
    trained = read.features[~read.held_out]
    assert mean == pytest.approx(trained.mean(axis=0))
    assert deviation == pytest.approx([*trained[:, :2].std(axis=0), 1.0])


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"id": ["x"] * 10}, "'id' is of type"),
        ({"id": [None, *range(9)]}, "'id' has empty"),
        ({"id": [float("inf"), *range(9)]}, "'id' has empty"),
        ({"y": [None, *"ababababa"]}, "'y' has 1 empty"),
    ],
)
def test_unsuitable_columns_are_named(table: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsuitableTable, match=named):
        problem(**table)


def test_too_few_rows_and_a_missing_target() -> None:
    with pytest.raises(UnsuitableTable, match="too few"):
        problem(1)
    with pytest.raises(UnsuitableTable, match="'z' is not"):
        read_problem(pa.table({"a": [1]}), target="z", held_out_share=0.1, seed=0)
