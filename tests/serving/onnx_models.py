"""Tiny real ONNX files."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_makers import glutton_onnx, loop_onnx, rounds_onnx


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any]) -> Path:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def mlp(path: Path, *, features: int = 4, hidden: int = 16, classes: int = 3, seed: int = 0) -> Path:
    """A classifier: `features` FP32 [n, features] to `probabilities` FP32 [n, classes]."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(size=(features, hidden)).astype(np.float32),
        "w2": rng.normal(size=(hidden, classes)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["features", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Softmax", ["c"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", features])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])]
    return save(path, nodes, inputs, outputs, weights)


def scale(path: Path, factor: float) -> Path:
    """`x` FP32 [n, 1] to `y` = factor · x: says which revision answered."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    value = helper.make_tensor_value_info
    weights = {"factor": np.array([factor], np.float32)}
    return save(
        path, nodes, [value("x", TensorProto.FLOAT, ["n", 1])], [value("y", TensorProto.FLOAT, ["n", 1])], weights
    )


def identities(path: Path) -> Path:
    """Several inputs, each given back: `number` INT64 [n], `word` BYTES [n], `flag` BOOL [n, 2]."""
    value = helper.make_tensor_value_info
    kinds = {
        "number": (TensorProto.INT64, ["n"]),
        "word": (TensorProto.STRING, ["n"]),
        "flag": (TensorProto.BOOL, ["n", 2]),
    }
    return save(
        path,
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds],
        [value(name, *kind) for name, kind in kinds.items()],
        [value(f"{name}_out", *kind) for name, kind in kinds.items()],
        {},
    )


def matmul_tower(path: Path, *, size: int = 512, layers: int = 24) -> Path:
    """`x` FP32 [n, size] through many products: takes milliseconds per row block."""
    weights = {f"w{i}": (np.eye(size) * 0.5).astype(np.float32) for i in range(layers)}
    names = ["x", *[f"h{i}" for i in range(layers - 1)], "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)]
    value = helper.make_tensor_value_info
    return save(
        path, nodes, [value("x", TensorProto.FLOAT, ["n", size])], [value("y", TensorProto.FLOAT, ["n", size])], weights
    )


def pairs(path: Path) -> Path:
    """`x` FP32 [n, 1] to `y`, the same in rows of two: refuses an odd number of rows."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    value = helper.make_tensor_value_info
    tensors = [value("x", TensorProto.FLOAT, ["n", 1])], [value("y", TensorProto.FLOAT, ["m", 2])]
    return save(path, nodes, *tensors, {"shape": np.array([-1, 2])})


def glutton(path: Path, *, gigabytes: int) -> Path:
    """`x` FP32 [n, 1] to `y`, the same; asks for so much memory on the way."""
    path.write_bytes(glutton_onnx(gigabytes))
    return path


def rounds(path: Path) -> Path:
    """`n` INT64 [1] to `y`, the same: counts up to it, one round of a loop for each."""
    path.write_bytes(rounds_onnx())
    return path


def loop(path: Path, nodes: list[Any], goes_on: str = "goes_on_out", count: str = "count_out") -> Path:
    """`n` INT64 [1] to `y` INT64 [1]: so many rounds of the nodes."""
    path.write_bytes(loop_onnx(nodes, goes_on, count))
    return path


def half(path: Path) -> Path:
    """`x` FP16 [n, 2] to `y`, the same."""
    value = helper.make_tensor_value_info
    tensors = [value("x", TensorProto.FLOAT16, ["n", 2])], [value("y", TensorProto.FLOAT16, ["n", 2])]
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], *tensors, {})
