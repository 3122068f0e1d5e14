"""Arrays to TensorFlow's tensors and back, for its formats."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..errors import ModelFailed
from ..published.table import TensorSpec
from . import Array, Feeds


def tensors_of(specs: Sequence[TensorSpec], feeds: Feeds) -> dict[str, Any]:
    """Return the inputs as tensors by name; texts as TensorFlow's byte strings."""
    return {spec.name: tf.constant(feeds[spec.name].tolist() if _is_text(spec) else feeds[spec.name]) for spec in specs}


def arrays_of(specs: Sequence[TensorSpec], outputs: Sequence[str], answer: Any) -> list[Array]:
    """Return the named outputs of an answer: one tensor, several in the signature's order, or by name.

    Raises:
        ModelFailed: If the answer lacks one.
    """
    named = _named([spec.name for spec in specs], answer)
    if missing := [name for name in outputs if name not in named]:
        raise ModelFailed(f"The model's answer lacks the outputs {missing} of its signature; it has {sorted(named)}.")
    return [_array(named[name]) for name in outputs]


def _named(names: list[str], answer: Any) -> Mapping[str, Any]:
    if isinstance(answer, Mapping):
        return answer
    if isinstance(answer, tuple | list):
        return dict(zip(names, answer, strict=False))
    return {names[0]: answer}


def _array(value: Any) -> Array:
    array: Array = np.asarray(value)
    if array.dtype.kind in "OS":
        texts: Array = np.array([_text(one) for one in array.ravel()], dtype=object).reshape(array.shape)
        return texts
    return array


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _is_text(spec: TensorSpec) -> bool:
    return spec.datatype == "BYTES"
