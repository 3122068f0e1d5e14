"""What a trainer takes, checked without any training library."""

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from raymill.train.errors import InvalidHyperparameters, UnknownTrainer
from raymill.train.trainers import TRAINERS, Trainer, check_parameters, get_trainer

TRAINER = get_trainer("tabular-classifier", "pytorch")


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


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS.keys())
def test_every_trainer_is_there(trainer: Trainer) -> None:
    module, _, function = trainer.entry.partition(":")
    assert callable(getattr(import_module(module), function))


def test_checking_a_job_loads_no_training_library() -> None:
    program = "import sys, raymill.train.router; sys.exit(any(m in sys.modules for m in ('ray', 'torch', 'onnx')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
