"""The first request that a revision answers: its example, or one made from its signature."""

from math import prod

import orjson

from ..errors import ModelBroken
from ..formats import DTYPES
from ..models.lines import Codec
from ..published.table import Revision, TensorSpec
from .instances import predict
from .v2 import JSON_LENGTH, infer

_STRING_HEAD_BYTES = 4
# No body may be larger, unless the settings say so; and a signature may name any size.
_MOST_BYTES = 64 * 2**20


def first_request(revision: Revision) -> tuple[Codec, bytes, dict[bytes, bytes]]:
    """Return a request for this revision: its example, else zeros and empty texts, one where any size will do.

    Raises:
        ModelBroken: If the signature asks for inputs that no request could bring.
    """
    if revision.example:
        return predict, orjson.dumps({"instances": revision.example}), {}
    if sum(map(_size_bytes, revision.signature.inputs)) > _MOST_BYTES:
        raise ModelBroken(f"The signature's inputs take more than {_MOST_BYTES} bytes, which no request may.")
    pieces = [(spec, bytes(_size_bytes(spec))) for spec in revision.signature.inputs]
    head = orjson.dumps({"inputs": [_tensor(spec, len(piece)) for spec, piece in pieces]})
    return infer, b"".join([head, *(piece for _, piece in pieces)]), {JSON_LENGTH: b"%d" % len(head)}


def _shape(spec: TensorSpec) -> list[int]:
    return [1 if size == -1 else size for size in spec.shape]


def _size_bytes(spec: TensorSpec) -> int:
    # A text is four bytes that say how many follow; all zeros are empty texts.
    width = _STRING_HEAD_BYTES if spec.datatype == "BYTES" else DTYPES[spec.datatype].itemsize
    return prod(_shape(spec)) * width


def _tensor(spec: TensorSpec, size_bytes: int) -> dict[str, object]:
    parameters = {"binary_data_size": size_bytes}
    return {"name": spec.name, "datatype": spec.datatype, "shape": _shape(spec), "parameters": parameters}
