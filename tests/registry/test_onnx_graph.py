"""What is read from ONNX files, and which are refused."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from onnx_makers import external, linear_model
from raymill.registry.errors import BadOnnx, BadSignature
from raymill.registry.formats import check_signature
from raymill.registry.onnx_graph import read_signature
from raymill.registry.schemas import Signature, TensorSpec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def read(path: Path, model: onnx.ModelProto) -> Signature:
    path.write_bytes(model.SerializeToString())
    return read_signature(path)


def test_inputs_and_outputs_are_read(path: Path) -> None:
    assert read(path, linear_model()) == Signature(
        inputs=[TensorSpec(name="x", datatype="FP32", shape=[-1, 2])],
        outputs=[TensorSpec(name="y", datatype="FP32", shape=[-1, 3])],
    )


def test_weights_that_are_also_inputs_are_no_inputs(path: Path) -> None:
    model = linear_model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3]))
    assert [one.name for one in read(path, model).inputs] == ["x"]


@pytest.mark.parametrize(
    ("element", "datatype"),
    [
        (TensorProto.STRING, "BYTES"),
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.INT64, "INT64"),
        (TensorProto.DOUBLE, "FP64"),
    ],
)
def test_datatypes_carry_the_names_of_the_protocol(path: Path, element: int, datatype: str) -> None:
    values = [helper.make_tensor_value_info(name, element, ["n"]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert read(path, model).inputs[0].datatype == datatype


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x08", b"\xff" * 4096], ids=repr)
def test_a_file_that_is_no_graph_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content[:4096])
    with pytest.raises(BadOnnx):
        read_signature(path)


def test_a_graph_with_an_unknown_operator_is_refused(path: Path) -> None:
    model = linear_model()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BadOnnx, match="NoSuchOperator"):
        read(path, model)


def test_weights_in_other_files_are_refused(path: Path) -> None:
    model = linear_model()
    external(model.graph.initializer[0])
    with pytest.raises(BadOnnx, match="other files"):
        read(path, model)


def test_weights_in_other_files_are_found_in_nested_graphs(path: Path) -> None:
    model = linear_model()
    hidden = linear_model().graph
    external(hidden.initializer[0])
    node = helper.make_node("If", ["c"], ["z"], then_branch=hidden, else_branch=linear_model().graph)
    model.graph.node.append(node)
    with pytest.raises(BadOnnx, match="other files"):
        read(path, model)


def test_weights_in_other_files_are_found_in_constants(path: Path) -> None:
    model = linear_model()
    weight = onnx.TensorProto()
    weight.CopyFrom(model.graph.initializer[0])
    external(weight)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=weight))
    with pytest.raises(BadOnnx, match="other files"):
        read(path, model)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_graph_needs_inputs_and_outputs(path: Path, side: str) -> None:
    model = linear_model()
    model.graph.ClearField(side)
    with pytest.raises(BadOnnx):
        read(path, model)


def test_a_graph_of_constants_alone_is_refused(path: Path) -> None:
    model = linear_model()
    del model.graph.node[:]
    del model.graph.input[:]
    model.graph.node.append(helper.make_node("Identity", ["w"], ["y"]))
    with pytest.raises(BadOnnx, match="at least one input"):
        read(path, model)


def test_an_input_without_a_shape_is_refused(path: Path) -> None:
    model = linear_model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(BadOnnx, match="shape"):
        read(path, model)


def test_maps_and_sequences_are_refused(path: Path) -> None:
    model = linear_model()
    model.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["s"]))
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    with pytest.raises(BadOnnx, match="'s' is not a tensor"):
        read(path, model)


def test_a_given_signature_may_add_columns_and_labels(path: Path) -> None:
    graph = read(path, linear_model())
    given = graph.model_copy(deep=True)
    given.inputs[0].columns, given.labels = ["a", "b"], ["u", "v", "w"]
    assert check_signature(given, graph) == given


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"datatype": "FP64"}, {"shape": [-1, 2, 1]}, {"shape": []}], ids=repr
)
def test_a_given_signature_may_not_contradict(path: Path, change: dict[str, object]) -> None:
    graph = read(path, linear_model())
    given = graph.model_copy(update={"inputs": [graph.inputs[0].model_copy(update=change)]})
    with pytest.raises(BadSignature, match="inputs"):
        check_signature(given, graph)
