"""Small ONNX graphs, good and bad."""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

# Rounds of a loop that take half a minute, so that a test that fails ends too.
ENDLESS = 3 * 10**7


def linear_model(inputs: int = 2, outputs: int = 3, fill: float = 1.0) -> onnx.ModelProto:
    """Return ``y = x @ w`` for rows of ``inputs`` numbers."""
    weights = numpy_helper.from_array(np.full((inputs, outputs), fill, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear_onnx(inputs: int = 2, outputs: int = 3, fill: float = 1.0) -> bytes:
    """Return the bytes of ``linear_model``."""
    content: bytes = linear_model(inputs, outputs, fill).SerializeToString()
    return content


def glutton_onnx(gigabytes: int) -> bytes:
    """Return the bytes of ``y = x``, which asks for so much memory on the way."""
    shape = numpy_helper.from_array(np.array([gigabytes * 2**28]), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    tensors = [value("x", TensorProto.FLOAT, ["n", 1])], [value("y", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "glutton", *tensors, [shape])
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return content


def rounds_onnx() -> bytes:
    """Return the bytes of a graph that counts from 0 up to its input ``n``, one round of a loop for each."""
    return loop_onnx(
        [
            helper.make_node("Identity", ["goes_on"], ["goes_on_out"]),
            helper.make_node("Add", ["count", "one"], ["count_out"]),
        ]
    )


def loop_onnx(nodes: list[NodeProto], goes_on: str = "goes_on_out", count: str = "count_out") -> bytes:
    """Return the bytes of a graph from ``n`` INT64 [1] to ``y`` INT64 [1]: so many rounds of the nodes."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes,
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("goes_on", TensorProto.BOOL, []),
            value("count", TensorProto.INT64, [1]),
        ],
        [value(goes_on, TensorProto.BOOL, []), value(count, TensorProto.INT64, [1])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "zero"], ["y"], body=body)],
        "loop",
        [value("n", TensorProto.INT64, [1])],
        [value("y", TensorProto.INT64, [1])],
        [numpy_helper.from_array(np.array([number]), name) for name, number in (("zero", 0), ("one", 1))],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return content


def external(tensor: onnx.TensorProto, location: str = "../../etc/passwd") -> None:
    """Make a tensor point to a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
