"""Both tabular trainers, really trained on a small mixed table in this process."""

import importlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import ray
from tables import mixed_rows, with_targets

from raymill.serving.formats import POOL_FORMATS, loader_of
from raymill.serving.protocol.instances import predict
from raymill.serving.protocol.tensors import Interface
from raymill.serving.protocol.v2 import Target
from raymill.serving.published.table import Signature
from raymill.train.schemas import ResourceRequirements
from raymill.train.trainers import check_parameters, get_trainer
from raymill.train.trainers.task import Checkpoints, NoCheckpoints, TrainedModel, TrainingTask

pytestmark = pytest.mark.ray

# Three networks, each in half a second, after 5 to 10 s for the start of Ray.
TABLE = with_targets(mixed_rows(300)).drop_columns(["same"])


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="rm-ray-") as folder:
        ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR", _temp_dir=folder)
        yield
        ray.shutdown()


class KeptStates:
    """Checkpoints in memory: every state is kept, and the training begins from the one that was given."""

    def __init__(self, first: bytes | None = None) -> None:
        self.first = first
        self.states: list[bytes] = []

    def last(self) -> bytes | None:
        return self.first

    def offer(self, epoch: int, state: Callable[[], bytes]) -> None:
        self.states.append(state())


def train(
    name: str, folder: Path, *, checkpoints: Checkpoints | None = None, **parameters: Any
) -> tuple[TrainedModel, list[int]]:
    trainer = get_trainer(name, "pytorch")
    module, _, function = trainer.entry.partition(":")
    given = {"epochs": 40, "learning_rate": 1e-2} | parameters
    epochs: list[int] = []
    task = TrainingTask(
        name="job_test",
        table=TABLE.drop_columns(["price" if given["target"] == "kind" else "kind"]),
        parameters=check_parameters(trainer, given),
        resources=ResourceRequirements(),
        folder=folder,
        report=lambda epoch, _: epochs.append(epoch),
        checkpoints=checkpoints or NoCheckpoints(),
    )
    return getattr(importlib.import_module(module), function)(task), epochs


def served_answers(trained: TrainedModel, format_name: str) -> Any:
    """Return what a model server answers to all raw rows with the file of this format."""
    path = next(file.path for file in trained.files if file.path.suffix == f".{format_name}")
    signature = Signature.model_validate(trained.signature)
    model = loader_of(format_name)(path, signature)
    raw = TABLE.drop_columns(["kind", "price"]).to_pylist()
    rows = json.loads(json.dumps(raw, default=lambda value: value.isoformat()))
    question = predict(Target("t", "1", Interface(signature)), orjson.dumps({"instances": rows}), {})
    return model.run(question.outputs, question.feeds)[0]


def check_both_forms_agree(trained: TrainedModel) -> None:
    onnx, safetensors = (served_answers(trained, name) for name in POOL_FORMATS)
    assert onnx.shape == safetensors.shape
    assert np.abs(onnx - safetensors).max() <= 1e-5 * np.abs(onnx).max()


@pytest.mark.usefixtures("_cluster")
def test_classes_are_learned_from_a_mixed_table(tmp_path: Path) -> None:
    trained, epochs = train("tabular-classifier", tmp_path, target="kind")
    assert trained.metrics["accuracy"] >= 0.8
    assert trained.signature["labels"] == ["Größe", "klein"]
    assert set(trained.signature["ignored"]) == {"kind", "key"}
    assert {file.path.name for file in trained.files} == {"model.onnx", "model.safetensors", "config.json"}
    assert epochs == list(range(1, 41))
    check_both_forms_agree(trained)


@pytest.mark.usefixtures("_cluster")
def test_numbers_are_learned_in_their_own_unit(tmp_path: Path) -> None:
    trained, _ = train("tabular-regressor", tmp_path, target="price")
    # The target spreads over 1e5; the checks of the ONNX file against the weights passed as well.
    assert trained.metrics["r2"] >= 0.8
    assert 10 < trained.metrics["mae"] <= trained.metrics["rmse"] < 15_000
    assert trained.signature["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1]}]
    assert trained.signature["labels"] is None
    check_both_forms_agree(trained)


@pytest.mark.usefixtures("_cluster")
def test_a_resumed_training_ends_as_one_that_was_never_disturbed(tmp_path: Path) -> None:
    def run(folder: str, first: bytes | None = None) -> tuple[KeptStates, TrainedModel, list[int], bytes]:
        kept = KeptStates(first)
        (tmp_path / folder).mkdir()
        trained, epochs = train("tabular-classifier", tmp_path / folder, target="kind", epochs=6, checkpoints=kept)
        return kept, trained, epochs, (tmp_path / folder / "model.safetensors").read_bytes()

    kept, whole, _, weights = run("whole")
    _, resumed, epochs, same = run("resumed", kept.states[2])
    assert (epochs, resumed.metrics, same) == ([4, 5, 6], whole.metrics, weights)
    _, done, epochs, same = run("done", kept.states[5])
    assert (epochs, done.metrics, same) == ([], whole.metrics, weights)
