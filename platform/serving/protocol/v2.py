"""Open Inference Protocol v2 over HTTP: JSON and the binary tensor extension, to arrays and back.

Sources: the KServe "Open Inference Protocol (V2)" specification and Triton's extensions "Binary Tensor Data" and
"Classification".
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import numpy as np
import orjson

from ...kernel.errors import UnreadableBody
from ..errors import InputRefused, RequestRefused
from ..formats import Array
from .classes import top_classes
from .tensors import Interface, Port
from .wording import AT_ONCE, with_outputs

#: Request and response header: the length of the JSON part when binary tensors follow it.
JSON_LENGTH = b"inference-header-content-length"

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
# Settings of Triton's extensions that would change what a request means, and that this server cannot honour.
_NO_REQUEST_PARAMETERS = frozenset({"sequence_id", "sequence_start", "sequence_end", "priority", "timeout"})
_NO_TENSOR_PARAMETERS = frozenset({"shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"})


class Answer(NamedTuple):
    """The body of an answer; with binary tensors its first ``json_length`` bytes are the JSON part."""

    body: bytes
    json_length: int | None = None


class Target(NamedTuple):
    """The model that a request is for, under the name and version that the client sees."""

    name: str
    version: str
    interface: Interface


class Question(ABC):
    """A request that was read and fits the model: what to run, and how to word the answer."""

    __slots__ = ("feeds", "outputs")

    def __init__(self, feeds: dict[str, Array], outputs: list[str]) -> None:
        #: Arrays that fit the signature, by input.
        self.feeds = feeds
        #: Names of the outputs that the model must give, in this order.
        self.outputs = outputs

    @abstractmethod
    def answer(self, arrays: list[Array]) -> Answer:
        """Word the model's outputs.

        Raises:
            ModelFailed: If they have no form that this door could give them.
        """


class _Wanted(NamedTuple):
    port: Port
    binary: bool
    #: How many of the likeliest classes are asked for instead of all values; 0: all values.
    classes: int = 0


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UnreadableBody: If the body is not JSON.
        RequestRefused: If it is JSON and not an object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableBody(f"The body is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise RequestRefused("The body must be a JSON object.")
    return document


class _Infer(Question):
    __slots__ = ("_id", "_target", "_wanted")

    def __init__(self, target: Target, request_id: Any, feeds: dict[str, Array], wanted: list[_Wanted]) -> None:
        # Not by the parent's: a call of its own costs as much as all of these.
        self.feeds, self.outputs = feeds, [output.port.name for output in wanted]
        self._target = target
        self._id = request_id
        self._wanted = wanted

    def answer(self, arrays: list[Array]) -> Answer:
        return _answer(self._target, self._id, self._wanted, arrays)


def infer(target: Target, body: bytes, headers: Mapping[bytes, bytes]) -> Question:
    """Read one inference request.

    Raises:
        UnreadableBody: If the body is not JSON.
        ValidationFailed: If it is not a request that fits the model's signature.
    """
    json_length = _json_length(headers, len(body)) if JSON_LENGTH in headers else None
    request = read_json(body if json_length is None else body[:json_length])
    binary = memoryview(b"" if json_length is None else body)[json_length or 0 :]
    feeds = _feeds(target.interface, request.get("inputs"), binary)
    return _Infer(target, request.get("id"), feeds, _wanted(target.interface, request))


_MOST_DIGITS = 18


def _json_length(headers: Mapping[bytes, bytes], limit: int) -> int:
    given = headers[JSON_LENGTH]
    if not given.isdigit() or len(given) > _MOST_DIGITS:
        raise RequestRefused("Inference-Header-Content-Length must be a whole number of bytes.")
    if int(given) > limit:
        raise RequestRefused("Inference-Header-Content-Length exceeds the length of the body.")
    return int(given)


def _feeds(interface: Interface, tensors: Any, binary: memoryview) -> dict[str, Array]:
    if not isinstance(tensors, list):
        raise RequestRefused("The body needs 'inputs', a list of tensors {name, shape, datatype, data}.")
    feeds: dict[str, Array] = {}
    for tensor in tensors:
        port = _port_of(interface, tensor)
        parameters = tensor.get("parameters")
        if isinstance(parameters, dict) and not _NO_TENSOR_PARAMETERS.isdisjoint(parameters):
            _refuse(_NO_TENSOR_PARAMETERS & parameters.keys())
        if isinstance(parameters, dict) and "binary_data_size" in parameters:
            flat, binary = _take_binary(port, parameters["binary_data_size"], binary)
        else:
            flat = port.array(tensor.get("data"))
        feeds[port.name] = port.shaped(flat, tensor.get("shape"))
    if len(feeds) != len(tensors):
        raise RequestRefused("An input is sent twice.")
    for name in interface.inputs:
        if name not in feeds:
            raise InputRefused(name, "is missing from 'inputs'.")
    if binary:
        raise RequestRefused(f"{len(binary)} bytes follow the last binary tensor.")
    return feeds


def _port_of(interface: Interface, tensor: Any) -> Port:
    if not isinstance(tensor, dict):
        raise RequestRefused("Each of 'inputs' must be an object {name, shape, datatype, data}.")
    name = tensor.get("name")
    port = interface.inputs.get(name) if isinstance(name, str) else None
    if port is None:
        raise InputRefused(str(name), f"the model has no such input; it takes {list(interface.inputs)}.")
    if tensor.get("datatype") != port.datatype:
        raise InputRefused(port.name, f"the datatype must be {port.datatype}, not {tensor.get('datatype')}.")
    return port


def _take_binary(port: Port, size: Any, binary: memoryview) -> tuple[Array, memoryview]:
    if type(size) is not int or not 0 <= size <= len(binary):
        raise InputRefused(port.name, f"'binary_data_size' is {size}, and {len(binary)} bytes are left in the body.")
    piece, rest = binary[:size], binary[size:]
    if port.datatype == "BYTES":
        return _read_strings(port, bytes(piece)), rest
    if size % port.dtype.itemsize:
        raise InputRefused(port.name, f"{size} bytes are not a whole number of {port.datatype} values.")
    return np.frombuffer(piece, port.dtype), rest


def _read_strings(port: Port, piece: bytes) -> Array:
    strings: list[str] = []
    offset = 0
    try:
        while offset < len(piece):
            start = offset + 4
            offset = start + int.from_bytes(piece[offset:start], "little")
            if start > len(piece) or offset > len(piece):
                raise InputRefused(port.name, "a string is longer than its tensor.")
            strings.append(piece[start:offset].decode())
    except UnicodeDecodeError as error:
        raise InputRefused(port.name, "the strings must be UTF-8.") from error
    return np.array(strings, dtype=object)


def _wanted(interface: Interface, request: dict[str, Any]) -> list[_Wanted]:
    parameters, outputs = request.get("parameters"), request.get("outputs")
    all_binary = False
    if isinstance(parameters, dict):
        _refuse(_NO_REQUEST_PARAMETERS & parameters.keys())
        all_binary = parameters.get("binary_data_output") is True
    if not outputs:
        return [_Wanted(port, all_binary) for port in interface.outputs.values()]
    if not isinstance(outputs, list):
        raise RequestRefused("'outputs' must be a list of objects {name}.")
    return [_wanted_one(interface, output, all_binary) for output in outputs]


def _wanted_one(interface: Interface, output: Any, all_binary: bool) -> _Wanted:
    name = output.get("name") if isinstance(output, dict) else output
    port = interface.outputs.get(name) if isinstance(name, str) else None
    if port is None:
        raise RequestRefused(f"The model has no output {name!r}; it gives {interface.output_names}.")
    parameters = output.get("parameters") if isinstance(output, dict) else None
    if not isinstance(parameters, dict):
        return _Wanted(port, all_binary)
    _refuse(_NO_TENSOR_PARAMETERS & parameters.keys())
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise RequestRefused("'classification' must be a whole number of classes.")
    return _Wanted(port, parameters.get("binary_data", all_binary) is True, classes)


def _refuse(parameters: Set[str]) -> None:
    if parameters:
        raise RequestRefused(f"The parameters {sorted(parameters)} are not offered here; leave them out.")


def _answer(target: Target, request_id: Any, wanted: list[_Wanted], arrays: list[Array]) -> Answer:
    document: dict[str, Any] = {"model_name": target.name, "model_version": target.version}
    if request_id is not None:
        document["id"] = request_id
    pieces: list[bytes] = []
    interface = target.interface
    outputs = [_output(output, array, interface, pieces) for output, array in zip(wanted, arrays, strict=True)]
    # No generator: this is a microsecond of every request, and of most the only array is short.
    for array in arrays:
        if array.size > AT_ONCE:
            body = with_outputs(document, outputs)
            break
    else:
        document["outputs"] = outputs
        body = orjson.dumps(document, option=_NUMPY)
    return Answer(b"".join([body, *pieces]), len(body)) if pieces else Answer(body)


def _output(output: _Wanted, array: Array, interface: Interface, pieces: list[bytes]) -> dict[str, Any]:
    datatype: str = output.port.datatype
    if output.classes:
        labels = interface.labels if output.port.name == interface.output_names[0] else None
        array, datatype = top_classes(array, output.classes, labels), "BYTES"
    tensor: dict[str, Any] = {"name": output.port.name, "datatype": datatype, "shape": array.shape}
    if output.binary:
        piece = _write_strings(array) if datatype == "BYTES" else array.tobytes()
        pieces.append(piece)
        tensor["parameters"] = {"binary_data_size": len(piece)}
    else:
        tensor["data"] = array.ravel().tolist() if array.dtype.kind == "O" else array.ravel()
    return tensor


def _write_strings(array: Array) -> bytes:
    encoded = [str(value).encode() for value in array.ravel()]
    return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
