"""ONNX through onnxruntime on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from ..errors import ModelBroken, ModelFailed
from ..published.table import Signature, TensorSpec
from . import Array, Feeds

# Resident memory of a session beyond its weights, measured with onnxruntime 1.32.
_SESSION_BYTES = 256 * 2**10
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxModel:
    """An onnxruntime session with one thread per call, since requests already run beside each other."""

    def __init__(self, session: onnxruntime.InferenceSession, size_bytes: int) -> None:
        # The binding's own method: the Python wrapper around it costs a sixth of a small model's call.
        self._run = session._sess.run
        self._session = session
        self.size_bytes = size_bytes

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """Compute the named outputs.

        Raises:
            ModelFailed: If the graph refuses these values.
        """
        try:
            answers: list[Array] = self._run(outputs, feeds, None)
        except (Fail, InvalidArgument, RuntimeException) as error:
            raise ModelFailed(f"The model refuses the input: {error}") from error
        return answers


def load(path: Path, signature: Signature) -> OnnxModel:
    """Load an ONNX file.

    Raises:
        ModelBroken: If onnxruntime cannot read it, or its graph does not fit the signature.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each of a dozen causes, without a root
        raise ModelBroken(f"onnxruntime cannot load the model: {error}") from error
    _check("input", signature.inputs, session.get_inputs())
    _check("output", signature.outputs, session.get_outputs())
    return OnnxModel(session, path.stat().st_size + _SESSION_BYTES)


def _check(role: str, specs: Sequence[TensorSpec], nodes: Sequence[Any]) -> None:
    types = {node.name: _DATATYPES.get(node.type, node.type) for node in nodes}
    for spec in specs:
        if spec.name not in types:
            raise ModelBroken(f"The graph has no {role} {spec.name!r}; it has {sorted(types)}.")
        if types[spec.name] != spec.datatype:
            raise ModelBroken(f"The graph's {role} {spec.name!r} is {types[spec.name]}, not {spec.datatype}.")
