"""What a trainer takes, checked without any training library."""

import subprocess
import sys
from typing import Any

import pytest

from raymill.train.errors import InvalidHyperparameters, UnknownTrainer, UnsuitableDataset
from raymill.train.trainers import check_parameters, check_table, get_trainer

TRAINER = get_trainer("tabular-classifier", "pytorch")


def statistics(**columns: dict[str, Any]) -> dict[str, Any]:
    return {name: {"nulls": 0, "non_finite": 0, "distinct": 3} | column for name, column in columns.items()}


def columns(**types: str) -> list[dict[str, Any]]:
    return [{"name": name, "type": type_} for name, type_ in types.items()]


def test_defaults_are_filled_in() -> None:
    filled = check_parameters(TRAINER, {"target": "digit"}).model_dump()
    assert (filled["epochs"], filled["batch_size"], filled["hidden_sizes"], filled["seed"]) == (20, 64, [64], 0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"target": ""},
        {"target": "y", "epochs": 0},
        {"target": "y", "epochs": "many"},
        {"target": "y", "learning_rate": 0},
        {"target": "y", "batch_size": -1},
        {"target": "y", "hidden_sizes": [0]},
        {"target": "y", "hidden_sizes": [100_000_000]},
        {"target": "y", "momentum": 0.9},
    ],
)
def test_wrong_hyperparameters_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidHyperparameters, match=r"hyperparameters\."):
        check_parameters(TRAINER, given)


@pytest.mark.parametrize(("name", "framework"), [("tabular-classifier", "tensorflow"), ("oracle", "pytorch")])
def test_unknown_trainers_are_refused(name: str, framework: str) -> None:
    with pytest.raises(UnknownTrainer):
        get_trainer(name, framework)


@pytest.mark.parametrize(
    ("types", "changed", "named"),
    [
        ({"a": "double", "y": "string"}, {"a": {"nulls": 2}}, "'a' has 2 empty"),
        ({"a": "double", "y": "string"}, {"a": {"non_finite": 1}}, "'a' has NaN"),
        ({"a": "string", "y": "string"}, {}, "'a' is of type string"),
        ({"a": "double", "y": "string"}, {"y": {"nulls": 1}}, "'y' has 1 empty"),
        ({"a": "double", "y": "string"}, {"y": {"distinct": 1}}, "'y' has only one"),
        ({"a": "double", "y": "double"}, {"y": {"distinct": 90}}, "'y' has too many"),
        ({"a": "double", "b": "int64"}, {}, "'y' is not in the dataset"),
        ({"y": "string"}, {}, "no column beside"),
    ],
)
def test_unsuitable_tables_are_refused(types: dict[str, str], changed: dict[str, Any], named: str) -> None:
    known = statistics(**{name: changed.get(name, {}) for name in types})
    with pytest.raises(UnsuitableDataset, match=named):
        check_table("y", columns(**types), known, row_count=100)


def test_a_suitable_table_passes() -> None:
    check_table("y", columns(a="double", b="bool", y="string"), statistics(a={}, b={}, y={}), row_count=100)


def test_checking_a_job_loads_no_training_library() -> None:
    program = "import sys, raymill.train.router; sys.exit(any(m in sys.modules for m in ('ray', 'torch', 'onnx')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
