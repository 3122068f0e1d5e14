"""ONNX through onnxruntime on the CPU."""

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from ..errors import ModelBroken, ModelFailed
from ..published.table import Signature, TensorSpec
from . import Array, Feeds, Halt, RunHalted

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
# Operators that run a graph of their own over and over.
_LOOPS = ("Loop", "Scan")
_PIECE_BYTES = 1 << 20


class OnnxModel:
    """An onnxruntime session with one thread per call, since requests already run beside each other."""

    def __init__(self, session: onnxruntime.InferenceSession, size_bytes: int) -> None:
        # The binding's own method: the Python wrapper around it costs a sixth of a small model's call.
        self._run = session._sess.run
        self._session = session
        self.size_bytes = size_bytes

    def halt(self) -> Halt:
        """Return what ends one run, between two operators: loops and shapes may depend on values."""
        halt: Halt = onnxruntime.RunOptions()
        return halt

    def run(self, outputs: Sequence[str], feeds: Feeds, halt: Halt | None = None) -> list[Array]:
        """Compute the named outputs.

        Raises:
            ModelFailed: If the graph refuses these values.
            RunHalted: If the halt was set.
        """
        try:
            answers: list[Array] = self._run(outputs, feeds, halt)
        except (Fail, InvalidArgument, RuntimeException) as error:
            if halt is not None and halt.terminate:
                raise RunHalted from error
            raise ModelFailed(f"The model refuses the input: {error}") from error
        return answers


def load(path: Path, signature: Signature) -> OnnxModel:
    """Load an ONNX file.

    Raises:
        ModelBroken: If onnxruntime cannot read it, or its graph does not fit the signature or could run for ever.
    """
    if _has_loops(path):
        _check_rounds(path)
    session = _session(path, _options())
    _check("input", signature.inputs, session.get_inputs())
    _check("output", signature.outputs, session.get_outputs())
    return OnnxModel(session, path.stat().st_size + _SESSION_BYTES)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each of a dozen causes, without a root
        raise ModelBroken(f"onnxruntime cannot load the model: {error}") from error


def _has_loops(path: Path) -> bool:
    """Tell whether the operators that repeat a graph may occur: their names are somewhere in the file."""
    size = path.stat().st_size
    if not size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # A piece at a time, for a search keeps the interpreter's lock from the event loop.
        pieces = ((start, start + _PIECE_BYTES + max(map(len, _LOOPS))) for start in range(0, size, _PIECE_BYTES))
        return any(content.find(name.encode(), *piece) >= 0 for piece in pieces for name in _LOOPS)


def _check_rounds(path: Path) -> None:
    """Refuse loops that nothing could end, for in their rounds there is no operator once the graph is optimized."""
    # Only here: it takes a tenth of a second, and few models have loops.
    import onnx

    options = _options()
    with TemporaryDirectory(prefix="raymill-graph-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        _session(path, options)
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    for operator, body in _bodies(graph):
        if operator in _LOOPS and all(node.op_type == "Constant" for node in body.node):
            raise ModelBroken(
                f"The graph has a {operator} whose rounds compute nothing, so that it could not be ended."
            )


def _bodies(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yield the graphs inside of a graph, each with the operator that runs it."""
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield node.op_type, body
                yield from _bodies(body)


def _check(role: str, specs: Sequence[TensorSpec], nodes: Sequence[Any]) -> None:
    types = {node.name: _DATATYPES.get(node.type, node.type) for node in nodes}
    for spec in specs:
        if spec.name not in types:
            raise ModelBroken(f"The graph has no {role} {spec.name!r}; it has {sorted(types)}.")
        if types[spec.name] != spec.datatype:
            raise ModelBroken(f"The graph's {role} {spec.name!r} is {types[spec.name]}, not {spec.datatype}.")
