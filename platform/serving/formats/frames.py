"""Arrays as bytes, between a model server and an app of the dedicated tier.

No pickle: the app runs a program of a user's, and nothing that it says may run in the model server. A frame is four
bytes with the length of a JSON head ``[[name, dtype, shape, bytes], …]``, the head, and the arrays one after the other;
texts travel as a JSON list.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from . import Array

#: First byte of an app's answer: a frame follows, or the model's own words for a refusal.
ARRAYS, REFUSED = b"\x00", b"\x01"
_TEXTS = "O"
_PLAIN = frozenset("biuf")


class FrameDamaged(ValueError):
    """Raised when bytes are not the frame that was expected."""


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Write arrays by name."""
    pieces = [_piece(array) for array in arrays.values()]
    head = orjson.dumps(
        [
            [name, _TEXTS if array.dtype.kind == _TEXTS else array.dtype.str, array.shape, len(piece)]
            for (name, array), piece in zip(arrays.items(), pieces, strict=True)
        ]
    )
    return b"".join([len(head).to_bytes(4, "little"), head, *pieces])


def unpack(frame: memoryview, expected: Mapping[str, np.dtype[Any]], outputs: Sequence[str]) -> list[Array]:
    """Read the named arrays, each of the datatype that is expected of it.

    Raises:
        FrameDamaged: If the bytes are no frame, or hold something else.
    """
    try:
        named = _read(frame)
    except (ValueError, TypeError, KeyError) as error:
        raise FrameDamaged(f"it is no frame of arrays ({error})") from error
    for name in outputs:
        if name not in named:
            raise FrameDamaged(f"the output {name!r} is missing")
        if named[name].dtype != expected[name]:
            raise FrameDamaged(f"the output {name!r} is {named[name].dtype}, not {expected[name]}")
    return [named[name] for name in outputs]


def _piece(array: Array) -> bytes:
    return orjson.dumps(array.ravel().tolist()) if array.dtype.kind == _TEXTS else array.tobytes()


def _read(view: memoryview) -> dict[str, Array]:
    start = 4 + int.from_bytes(view[:4], "little")
    named: dict[str, Array] = {}
    for name, dtype, shape, size in orjson.loads(view[4:start]):
        named[name] = _array(view[start : start + size], dtype).reshape(shape)
        start += size
    return named


def _array(piece: memoryview, dtype: str) -> Array:
    if dtype == _TEXTS:
        texts = orjson.loads(piece)
        if not all(type(text) is str for text in texts):
            raise ValueError("a text is none")
        return np.array(texts, dtype=object)
    kind = np.dtype(dtype)
    if kind.kind not in _PLAIN:
        raise ValueError(f"arrays of {kind} do not travel")
    return np.frombuffer(piece, kind)
