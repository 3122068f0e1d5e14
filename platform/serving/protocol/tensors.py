"""From JSON values to arrays that fit a model's signature, refusing whatever would have to be bent to fit."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import InputRefused
from ..formats import DTYPES, Array
from ..published.table import Signature, TensorSpec
from .cells import Cells

_ACCEPTED_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {"f": (int, float), "i": (int,), "u": (int,), "b": (bool,)}
_KIND_NAMES = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "b": "true or false"}


class Port:
    """One tensor of the signature with its numpy type at hand."""

    __slots__ = (
        "_accepted",
        "_cells",
        "_kind",
        "columns",
        "datatype",
        "dtype",
        "in_days",
        "name",
        "nullable",
        "shape",
    )

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self.datatype = spec.datatype
        self.shape = spec.shape
        self.columns = spec.columns
        self.nullable = frozenset(spec.nullable or ())
        self.dtype = DTYPES[spec.datatype]
        self._kind = self.dtype.kind
        # In a table true and false are 1 and 0.
        self._accepted = _ACCEPTED_KINDS.get(self._kind, "") + ("b" if spec.columns and self._kind == "f" else "")
        self.in_days = spec.encoding == "days"
        self._cells = Cells(spec.name, spec.columns, spec.nullable)

    def array(self, data: Any) -> Array:
        """Turn nested lists into an array of this tensor's type; numbers are never bent to fit.

        Raises:
            InputRefused: If the lists are ragged or hold values of another type.
        """
        if self._kind == "O":
            return self._strings(data)
        array = self._days(data) if self.in_days else self._nested(data)
        if array.dtype is self.dtype:
            return array
        if array.dtype.kind == "O":
            array = self._nested(self._cells.filled(array, np.nan).tolist())
        if self.datatype == "UINT64" and array.dtype.kind == "f":
            array = _wide_integers(data, array)
        if array.size and array.dtype.kind not in self._accepted:
            raise self._refusal(data)
        if self._kind in "iu":
            self._check_range(array)
        return self._cast(array)

    def _nested(self, data: Any, dtype: Any = None) -> Array:
        try:
            return np.array(data, dtype=dtype)
        except (ValueError, OverflowError) as error:
            raise InputRefused(
                self.name, "the nested lists do not form one array; all rows must be of one length."
            ) from error

    def _days(self, data: Any) -> Array:
        return self._nested(self._cells.in_days(self._nested(data, object)).tolist())

    def _strings(self, data: Any) -> Array:
        array = np.array(data, dtype=object)
        if not all(map(_is_text, array.flat)):
            array = self._cells.filled(array, "")
        if not all(map(_is_text, array.flat)):
            reason = f"the values must be strings ({self.datatype}), in rows of one length"
            raise self._cells.refusal(array, _is_text, reason)
        return array

    def _refusal(self, data: Any) -> InputRefused:
        types = _PYTHON_TYPES[self._kind]

        def fits(value: Any) -> bool:
            return isinstance(value, types) and (not isinstance(value, bool) or "b" in self._accepted)

        reason = f"the values must be {_KIND_NAMES[self._kind]} ({self.datatype})"
        return self._cells.refusal(self._nested(data, object), fits, reason)

    def _check_range(self, array: Array) -> None:
        limits = np.iinfo(self.dtype)
        if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
            raise InputRefused(self.name, f"a value is outside the range of {self.datatype}.")

    def _cast(self, array: Array) -> Array:
        try:
            with np.errstate(over="raise"):
                return array.astype(self.dtype)
        except FloatingPointError as error:
            raise InputRefused(self.name, f"a value is outside the range of {self.datatype}.") from error

    def check_shape(self, shape: Sequence[int]) -> None:
        """Compare a shape with the signature's, in which -1 fits any size.

        Raises:
            InputRefused: If it does not fit.
        """
        expected = self.shape
        if len(shape) == len(expected):
            for given, wanted in zip(shape, expected, strict=True):
                if given != wanted and wanted != -1:
                    break
            else:
                return
        raise InputRefused(self.name, f"the shape {list(shape)} does not fit {list(expected)} (-1: any size).")

    def shaped(self, array: Array, shape: Any) -> Array:
        """Give flat or nested values the shape that the client states.

        Raises:
            InputRefused: If the shape is none, does not fit the signature, or not the number of values.
        """
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise InputRefused(self.name, "'shape' must be a list of whole numbers.")
        self.check_shape(shape)
        if array.size != prod(shape):
            raise InputRefused(self.name, f"the shape {shape} takes {prod(shape)} values; {array.size} were sent.")
        return array.reshape(shape)


def _wide_integers(data: Any, array: Array) -> Array:
    """Read integers again that numpy took for floats, as it does when some exceed 63 bits and others do not."""
    exact = np.array(data, dtype=object)
    if not all(type(value) is int and 0 <= value < 2**64 for value in exact.flat):
        return array
    return exact.astype(np.uint64)


def _is_text(value: Any) -> bool:
    return type(value) is str


class Interface:
    """A signature compiled for the request path.

    ``columns`` are those of all inputs, None unless every input names its own; ``ignored`` are further ones that a row
    may hold; ``labels`` name the columns of the first output.
    """

    __slots__ = ("columns", "ignored", "inputs", "labels", "output_names", "outputs")

    def __init__(self, signature: Signature) -> None:
        self.inputs = {spec.name: Port(spec) for spec in signature.inputs}
        self.outputs = {spec.name: Port(spec) for spec in signature.outputs}
        self.output_names = list(self.outputs)
        named = [spec.columns for spec in signature.inputs]
        self.columns = None if None in named else frozenset(name for columns in named for name in columns or ())
        self.ignored = frozenset(signature.ignored or ())
        self.labels = signature.labels
