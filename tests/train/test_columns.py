"""Which columns are learned from, which are left out, and which tables are refused by name."""

from typing import Any

import pytest

from raymill.train.errors import UnsuitableDataset
from raymill.train.trainers import check_table
from raymill.train.trainers.columns import ColumnFacts, Plan, Role, Task, plan_columns

ROWS = 100
TARGET = ColumnFacts("y", "string", count=ROWS, nulls=0, distinct=3)


def column(type_: str, name: str = "a", **known: Any) -> ColumnFacts:
    filled = {"count": ROWS - known.get("nulls", 0), "nulls": 0, "distinct": 5} | known
    return ColumnFacts(name, type_, **filled)


def plan(*columns: ColumnFacts, target: ColumnFacts = TARGET, task: Task = "classification") -> Plan:
    other = ColumnFacts("other", "double", count=ROWS, nulls=0, distinct=90)
    return plan_columns("y", [other, *columns, target], row_count=ROWS, task=task)


@pytest.mark.parametrize(
    ("type_", "role"),
    [
        ("int64", Role.NUMBER),
        ("uint8", Role.NUMBER),
        ("double", Role.NUMBER),
        ("bool", Role.NUMBER),
        ("decimal128(10, 2)", Role.NUMBER),
        ("dictionary<values=int64, indices=int32, ordered=0>", Role.NUMBER),
        ("date32[day]", Role.MOMENT),
        ("timestamp[ns, tz=UTC]", Role.MOMENT),
        ("time32[s]", Role.MOMENT),
        ("string", Role.CATEGORY),
        ("large_string", Role.CATEGORY),
        ("dictionary<values=string, indices=int32, ordered=0>", Role.CATEGORY),
    ],
)
def test_the_type_decides_what_a_column_is(type_: str, role: Role) -> None:
    feature = plan(column(type_, nulls=2)).features[1]
    assert (feature.name, feature.role, feature.nullable) == ("a", role, True)


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        (column("string", distinct=100), "like an id"),
        (column("string", distinct=95, count=95, nulls=5), "like an id"),
        (column("string", distinct=1), "same value"),
        (column("string", count=0, nulls=100, distinct=0), "empty in every row"),
        (column("double", count=0, nulls=100, distinct=0), "empty in every row"),
        (column("int64", "id", distinct=100, low=1, high=100), "numbers the rows"),
        (column("int64", "PassengerId", distinct=100, low=1, high=100), "numbers the rows"),
        (column("int64", "row_number", distinct=100, low=0, high=99), "numbers the rows"),
    ],
)
def test_what_teaches_nothing_is_left_out_with_the_reason(left_out: ColumnFacts, reason: str) -> None:
    made = plan(left_out)
    assert [feature.name for feature in made.features] == ["other"]
    assert reason in made.left_out[left_out.name]


@pytest.mark.parametrize(
    "kept",
    [
        column("int64", "width", distinct=100, low=0, high=99),
        column("int64", "grid", distinct=100, low=0, high=99),
        column("int64", "id", distinct=100, low=1000, high=5000),
        column("double", "id", distinct=100, low=0.0, high=99.0),
        column("int64", "constant", distinct=1, low=7, high=7),
        column("string", distinct=1, nulls=4),
        column("string", distinct=60),
    ],
)
def test_what_may_teach_something_is_kept(kept: ColumnFacts) -> None:
    assert kept.name in [feature.name for feature in plan(kept).features]


@pytest.mark.parametrize(
    ("target", "task", "named"),
    [
        ({"type_": "string", "nulls": 1}, "classification", "'y' has 1 empty"),
        ({"type_": "double", "nulls": 1}, "regression", "'y' has 1 empty"),
        ({"type_": "double", "non_finite": 2}, "classification", "'y' has NaN"),
        ({"type_": "double", "non_finite": 2}, "regression", "'y' has NaN"),
        ({"type_": "string", "distinct": 1}, "classification", "'y' has only one"),
        ({"type_": "double", "distinct": 1}, "regression", "'y' has only one"),
        ({"type_": "double", "distinct": 51}, "classification", "'y' has too many.*tabular-regressor"),
        ({"type_": "string", "distinct": 100}, "classification", "'y' has too many.*100 in 100 rows.$"),
        ({"type_": "string"}, "regression", "'y' is of type string; only numbers"),
        ({"type_": "bool", "distinct": 2}, "regression", "'y' is of type bool"),
        ({"type_": "list<item: int64>", "distinct": None}, "classification", "'y' is of type list"),
    ],
)
def test_targets_that_cannot_be_predicted_are_named(target: dict[str, Any], task: Task, named: str) -> None:
    with pytest.raises(UnsuitableDataset, match=named):
        plan(target=column(name="y", **target), task=task)


@pytest.mark.parametrize(
    ("columns", "rows", "named"),
    [
        ([column("double", non_finite=1), TARGET], ROWS, "'a' has NaN"),
        ([column("list<item: int64>", distinct=None), TARGET], ROWS, "'a' is of type list"),
        ([column("duration[s]"), TARGET], ROWS, "'a' is of type duration"),
        ([column("string", distinct=100), TARGET], ROWS, "'y' can be learned from: 'a': .* id"),
        ([column("double")], ROWS, "'y' is not in the dataset; its columns are \\['a'\\]"),
        ([TARGET], ROWS, "no column beside"),
        ([column("double"), TARGET], 3, "3 rows; to learn 'y'"),
    ],
)
def test_tables_that_cannot_be_learned_are_refused_by_name(columns: list[ColumnFacts], rows: int, named: str) -> None:
    with pytest.raises(UnsuitableDataset, match=named):
        plan_columns("y", columns, row_count=rows, task="classification")


def test_ten_thousand_classes_are_refused_and_ten_thousand_numbers_are_not() -> None:
    columns = [{"name": "a", "type": "double"}, {"name": "y", "type": "int64"}]
    known = {"count": 30_000, "nulls": 0, "non_finite": 0, "distinct": 10_000}
    statistics = {"a": known, "y": known}
    with pytest.raises(UnsuitableDataset, match="'y' has too many different values to be classes: 10000"):
        check_table("y", columns, statistics, 30_000)
    check_table("y", columns, statistics, 30_000, "regression")
