"""What the quickstart decides by itself."""

from pathlib import Path

import pytest

from raymill.cli.models import name_of
from raymill.cli.quickstart import task_of
from raymill.sdk.predict import most_probable


@pytest.mark.parametrize(
    ("column_type", "distinct", "rows", "task"),
    [
        ("string", 5000, 10_000, "classification"),
        ("bool", 2, 100, "classification"),
        ("date32[day]", 90, 100, "classification"),
        ("int64", 10, 1797, "classification"),
        ("double", 2, 100, "classification"),
        ("int64", 10_000, 30_000, "regression"),
        ("double", 95, 100, "regression"),
        ("int64", 11, 20, "regression"),
        ("decimal128(10, 2)", 50, 100, "regression"),
        ("", None, 100, "classification"),
    ],
)
def test_the_targets_values_decide_the_task(column_type: str, distinct: int | None, rows: int, task: str) -> None:
    assert task_of(column_type, distinct, rows) == task


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("data/Iris Data (v2).csv", "iris-data-v2"),
        ("Größe.parquet", "gr-e"),
        ("___.csv", "table"),
        (f"{'ab-' * 20}.csv", ("ab-" * 20)[:40]),
    ],
)
def test_a_files_name_becomes_an_allowed_name(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


def test_the_most_probable_label_is_the_users_own() -> None:
    assert most_probable([[0.2, 0.8], [0.9, 0.1]], ["klein", "groß"]) == ["groß", "klein"]
