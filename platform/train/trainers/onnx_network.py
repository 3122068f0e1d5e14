"""Writes a scaled multilayer perceptron as ONNX, node by node; torch's own exporter takes seconds for the same.

The opset is fixed, so that the file does not change with the installed version of onnx. Operators: ONNX specification,
``Sub``, ``Div``, ``Gemm`` and ``Relu`` of opset 13 and 14, ``Softmax`` of opset 13; for dates, texts and empty cells
``Gather``, ``Concat``, ``Cast``, ``IsNaN``, ``Where`` and ``Squeeze`` up to opset 16, ``ai.onnx.ml`` ``OneHotEncoder``
of version 1.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from .tabular_encoder import CATEGORIES, MOMENTS, NUMBERS, TableEncoder

OPSET = 17
ML_OPSET = 1
# The version of the file format that belongs to opset 17.
IR_VERSION = 8
INPUT, OUTPUT = NUMBERS, "probabilities"
# Relative to the largest answer, where that exceeds 1.
TOLERANCE = 1e-5

Weights = Mapping[str, npt.NDArray[np.float32]]
Constants = dict[str, npt.NDArray[Any]]

_ELEMENTS = {NUMBERS: TensorProto.FLOAT, MOMENTS: TensorProto.DOUBLE, CATEGORIES: TensorProto.STRING}


class ExportDiffers(RuntimeError):
    """Raised when the written network does not answer like the trained one."""


def write_network(weights: Weights, path: Path, *, encoder: TableEncoder | None = None, output: str = OUTPUT) -> None:
    """Write the network.

    It takes FP32 [-1, numbers] named ``input``, FP64 [-1, dates] named ``dates`` in days and BYTES [-1, texts] named
    ``categories``, as far as the encoder has such columns; without an encoder FP32 [-1, features] named ``input``.

    Args:
        weights: ``mean``, ``deviation`` and, for each layer, ``layers.<n>.weight`` [out, in] and ``layers.<n>.bias``.
        path: The file to write.
        encoder: What the raw columns become before they are scaled.
        output: ``probabilities`` for FP32 [-1, classes], anything else for the only score of each row, FP32 [-1].
    """
    depth = sum(name.endswith(".weight") for name in weights)
    last = weights[f"layers.{depth - 1}.bias"]
    constants: Constants = dict(weights)
    encoding, encoded = ([], INPUT) if encoder is None else _encoding(encoder, constants)
    answer: list[str | int | None] = ["rows", len(last)] if output == OUTPUT else ["rows"]
    graph = helper.make_graph(
        [*encoding, *_layers(encoded, depth), _head(depth, output, constants)],
        "tabular_network",
        [
            helper.make_tensor_value_info(name, _ELEMENTS[name], ["rows", width])
            for name, width in _widths(weights, encoder).items()
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, answer)],
        [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if encoder is not None and encoder.categories:
        opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="raymill")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def check_network(
    path: Path, feeds: Mapping[str, npt.NDArray[Any]], expected: npt.NDArray[np.float32], *, output: str = OUTPUT
) -> None:
    """Make sure that the written network gives these answers for these inputs.

    Raises:
        ExportDiffers: If one differs by more than 1e-5 of the largest.
    """
    # Imported here: onnxruntime takes a while, and only the process that checks needs it.
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answer,) = session.run([output], dict(feeds))
    difference = float(np.abs(answer - expected).max(initial=0.0))
    if not difference <= TOLERANCE * float(np.abs(expected).max(initial=1.0)):
        raise ExportDiffers(f"The ONNX network differs from the trained one by {difference:.2e}.")


def _widths(weights: Weights, encoder: TableEncoder | None) -> dict[str, int]:
    if encoder is None:
        return {INPUT: len(weights["mean"])}
    columns = {NUMBERS: encoder.numbers, MOMENTS: encoder.moments, CATEGORIES: encoder.categories}
    return {name: len(held) for name, held in columns.items() if held}


def _encoding(encoder: TableEncoder, constants: Constants) -> tuple[list[onnx.NodeProto], str]:
    """Return the nodes from the inputs to one matrix, and the matrix' name."""
    nodes: list[onnx.NodeProto] = []
    numeric = _numeric(encoder, constants, nodes)
    hot = [_hot(number, values, constants, nodes) for number, values in enumerate(encoder.categories.values())]
    return nodes, _joined([*numeric, *hot], "encoded", nodes)


def _numeric(encoder: TableEncoder, constants: Constants, nodes: list[onnx.NodeProto]) -> list[str]:
    parts = [NUMBERS] if encoder.numbers else []
    if encoder.moments:
        constants["origins"] = encoder.origins
        nodes.append(helper.make_node("Sub", [MOMENTS, "origins"], ["since_origins"]))
        nodes.append(helper.make_node("Cast", ["since_origins"], ["days"], to=TensorProto.FLOAT))
        parts.append("days")
    if not encoder.has_gaps:
        return parts
    constants["fill"] = encoder.fill
    raw = _joined(parts, "raw", nodes)
    nodes.append(helper.make_node("IsNaN", [raw], ["gaps"]))
    nodes.append(helper.make_node("Where", ["gaps", "fill", raw], ["filled"]))
    return ["filled"]


def _hot(number: int, values: list[str], constants: Constants, nodes: list[onnx.NodeProto]) -> str:
    constants[f"column.{number}"] = np.array(number, dtype=np.int64)
    nodes.append(helper.make_node("Gather", [CATEGORIES, f"column.{number}"], [f"text.{number}"], axis=1))
    nodes.append(
        helper.make_node(
            "OneHotEncoder",
            [f"text.{number}"],
            [f"hot.{number}"],
            domain="ai.onnx.ml",
            cats_strings=[value.encode() for value in values],
            zeros=1,
        )
    )
    return f"hot.{number}"


def _joined(parts: list[str], name: str, nodes: list[onnx.NodeProto]) -> str:
    if len(parts) == 1:
        return parts[0]
    nodes.append(helper.make_node("Concat", parts, [name], axis=1))
    return name


def _layers(encoded: str, depth: int) -> Iterator[onnx.NodeProto]:
    yield helper.make_node("Sub", [encoded, "mean"], ["centred"])
    yield helper.make_node("Div", ["centred", "deviation"], ["activation.0"])
    for layer in range(depth):
        operands = [f"activation.{layer}", f"layers.{layer}.weight", f"layers.{layer}.bias"]
        yield helper.make_node("Gemm", operands, [f"score.{layer}"], transB=1)
        if layer < depth - 1:
            yield helper.make_node("Relu", [f"score.{layer}"], [f"activation.{layer + 1}"])


def _head(depth: int, output: str, constants: Constants) -> onnx.NodeProto:
    if output == OUTPUT:
        return helper.make_node("Softmax", [f"score.{depth - 1}"], [OUTPUT], axis=1)
    constants["only_score"] = np.array([1], dtype=np.int64)
    return helper.make_node("Squeeze", [f"score.{depth - 1}", "only_score"], [output])
