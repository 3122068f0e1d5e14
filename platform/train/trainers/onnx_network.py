"""Writes a scaled multilayer perceptron as ONNX, node by node; torch's own exporter takes seconds for the same.

The opset is fixed, so that the file does not change with the installed version of onnx. Operators: ONNX specification,
``Sub``, ``Div``, ``Gemm`` and ``Relu`` of opset 13 and 14, ``Softmax`` of opset 13.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
# The version of the file format that belongs to opset 17.
IR_VERSION = 8
INPUT, OUTPUT = "input", "probabilities"
TOLERANCE = 1e-5

Weights = Mapping[str, npt.NDArray[np.float32]]


class ExportDiffers(RuntimeError):
    """Raised when the written network does not answer like the trained one."""


def write_network(weights: Weights, path: Path) -> None:
    """Write the network: FP32 [-1, features] named ``input`` to FP32 [-1, classes] named ``probabilities``.

    Args:
        weights: ``mean``, ``deviation`` and, for each layer, ``layers.<n>.weight`` [out, in] and ``layers.<n>.bias``.
        path: The file to write.
    """
    depth = sum(name.endswith(".weight") for name in weights)
    last = weights[f"layers.{depth - 1}.bias"]
    graph = helper.make_graph(
        list(_nodes(depth)),
        "tabular_classifier",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", len(weights["mean"])])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", len(last)])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="raymill"
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def check_network(path: Path, rows: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    """Make sure that the written network gives these probabilities for these rows.

    Raises:
        ExportDiffers: If one differs by more than 1e-5.
    """
    # Imported here: onnxruntime takes a while, and only the process that checks needs it.
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answer,) = session.run([OUTPUT], {INPUT: rows})
    difference = float(np.abs(answer - expected).max(initial=0.0))
    if not difference <= TOLERANCE:
        raise ExportDiffers(f"The ONNX network differs from the trained one by {difference:.2e}.")


def _nodes(depth: int) -> Iterator[onnx.NodeProto]:
    yield helper.make_node("Sub", [INPUT, "mean"], ["centred"])
    yield helper.make_node("Div", ["centred", "deviation"], ["activation.0"])
    for layer in range(depth):
        operands = [f"activation.{layer}", f"layers.{layer}.weight", f"layers.{layer}.bias"]
        yield helper.make_node("Gemm", operands, [f"score.{layer}"], transB=1)
        if layer < depth - 1:
            yield helper.make_node("Relu", [f"score.{layer}"], [f"activation.{layer + 1}"])
    yield helper.make_node("Softmax", [f"score.{depth - 1}"], [OUTPUT], axis=1)
