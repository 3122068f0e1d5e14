"""The written network answers like the trained one."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from raymill.registry.onnx_graph import read_signature
from raymill.train.trainers.onnx_network import OPSET, ExportDiffers, check_network, write_network
from raymill.train.trainers.tabular_network import TabularNetwork


def network(hidden_sizes: list[int], features: int = 5, classes: int = 3) -> TabularNetwork:
    torch.manual_seed(1)
    mean = np.linspace(-100, 100, features, dtype=np.float32)
    deviation = np.linspace(0.5, 30, features, dtype=np.float32)
    return TabularNetwork(mean, deviation, hidden_sizes, classes)


def weights_of(model: TabularNetwork) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def rows_and_answers(model: TabularNetwork, count: int) -> tuple[np.ndarray, np.ndarray]:
    rows = (torch.randn(count, 5) * model.deviation * 3 + model.mean).float()
    with torch.no_grad():
        return rows.numpy(), model(rows).softmax(1).numpy()


@pytest.mark.parametrize("hidden_sizes", [[], [4], [16, 8, 4]])
@pytest.mark.parametrize("count", [0, 1, 200])
def test_onnx_equals_torch(tmp_path: Path, hidden_sizes: list[int], count: int) -> None:
    model = network(hidden_sizes)
    write_network(weights_of(model), tmp_path / "model.onnx")
    rows, answers = rows_and_answers(model, count)
    check_network(tmp_path / "model.onnx", {"input": rows}, answers)


def test_a_network_that_differs_is_noticed(tmp_path: Path) -> None:
    model = network([4])
    write_network(weights_of(model), tmp_path / "model.onnx")
    rows, answers = rows_and_answers(model, 10)
    with pytest.raises(ExportDiffers, match="differs"):
        check_network(tmp_path / "model.onnx", {"input": rows}, answers + np.float32(1e-3))
    with pytest.raises(ExportDiffers):
        check_network(tmp_path / "model.onnx", {"input": rows}, np.full_like(answers, np.nan))


def test_the_file_is_what_the_registry_reads(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_network(weights_of(network([4])), path)
    assert [opset.version for opset in onnx.load(path).opset_import] == [OPSET]
    signature = read_signature(path)
    (given,), (answered,) = signature.inputs, signature.outputs
    assert (given.name, given.datatype, given.shape) == ("input", "FP32", [-1, 5])
    assert (answered.name, answered.datatype, answered.shape) == ("probabilities", "FP32", [-1, 3])
