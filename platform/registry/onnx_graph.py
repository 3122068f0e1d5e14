"""What an ONNX file says of itself: its inputs and outputs. The file is parsed, never executed.

The names of datatypes are those of the Open Inference Protocol v2.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message

from .errors import BadOnnx
from .schemas import Datatype, Signature, TensorSpec

# The graph is held in memory several times while it is checked.
_MAX_BYTES = 1 << 30
_MAX_REASON = 300
_DATATYPES: dict[int, Datatype] = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: "BYTES",
}


def read_signature(path: Path) -> Signature:
    """Return the inputs and outputs of the graph; a dimension that may vary is -1.

    Raises:
        BadOnnx: If the file is not a valid graph, refers to data outside of itself, or takes or gives no tensors.
    """
    model = _load(path)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise BadOnnx("The ONNX file keeps its weights in other files; save it as one file.")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise BadOnnx(f"The ONNX graph is not valid: {_first_line(error)}") from error
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [_spec(value, "input") for value in model.graph.input if value.name not in constants]
    outputs = [_spec(value, "output") for value in model.graph.output]
    if not inputs or not outputs:
        raise BadOnnx("The ONNX graph needs at least one input and one output.")
    return Signature(inputs=inputs, outputs=outputs)


def _load(path: Path) -> onnx.ModelProto:
    if path.stat().st_size > _MAX_BYTES:
        raise BadOnnx(f"The ONNX file is larger than {_MAX_BYTES} bytes.")
    try:
        return onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise BadOnnx("The file is not an ONNX model: it cannot be parsed.") from error


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Walk all tensors of a model, also those of nested graphs, functions and sparse tensors."""
    left = [message]
    while left:
        current = left.pop()
        for field, value in current.ListFields():
            if field.message_type is None:
                continue
            children = [value] if isinstance(value, Message) else list(value)
            yield from (child for child in children if isinstance(child, onnx.TensorProto))
            left += [child for child in children if not isinstance(child, onnx.TensorProto)]


def _spec(value: onnx.ValueInfoProto, kind: str) -> TensorSpec:
    held = value.type.tensor_type
    if not value.type.HasField("tensor_type") or held.elem_type not in _DATATYPES:
        raise BadOnnx(
            f"The {kind} {value.name!r} is not a tensor of a type that can be served; "
            "convert with plain tensor outputs (for scikit-learn: zipmap=False)."
        )
    shape = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in held.shape.dim]
    if any(size < -1 for size in shape):
        raise BadOnnx(f"The {kind} {value.name!r} has a negative dimension.")
    return TensorSpec(name=value.name, datatype=_DATATYPES[held.elem_type], shape=shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:_MAX_REASON]
