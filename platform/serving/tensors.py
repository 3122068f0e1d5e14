"""From JSON values to arrays that fit a model's signature, refusing whatever would have to be bent to fit."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from .errors import InputRefused
from .formats import DTYPES, Array
from .table import Signature, TensorSpec

_ACCEPTED_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
_KIND_NAMES = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "b": "true or false"}


class Port:
    """One tensor of the signature with its numpy type at hand."""

    __slots__ = ("_accepted", "_kind", "columns", "datatype", "dtype", "name", "shape")

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self.datatype = spec.datatype
        self.shape = spec.shape
        self.columns = spec.columns
        self.dtype = DTYPES[spec.datatype]
        self._kind = self.dtype.kind
        self._accepted = _ACCEPTED_KINDS.get(self._kind, "")

    def array(self, data: Any) -> Array:
        """Turn nested lists into an array of this tensor's type; numbers are never bent to fit.

        Raises:
            InputRefused: If the lists are ragged or hold values of another type.
        """
        if self._kind == "O":
            return self._strings(data)
        try:
            array = np.array(data)
        except (ValueError, OverflowError) as error:
            raise InputRefused(
                self.name, "the nested lists do not form one array; all rows must be of one length."
            ) from error
        if array.dtype is self.dtype:
            return array
        if self.datatype == "UINT64" and array.dtype.kind == "f":
            array = _wide_integers(data, array)
        if array.size and array.dtype.kind not in self._accepted:
            raise InputRefused(self.name, f"the values must be {_KIND_NAMES[self._kind]} ({self.datatype}).")
        if self._kind in "iu":
            self._check_range(array)
        return self._cast(array)

    def _strings(self, data: Any) -> Array:
        array = np.array(data, dtype=object)
        if not all(type(value) is str for value in array.flat):
            raise InputRefused(self.name, f"the values must be strings ({self.datatype}), in rows of one length.")
        return array

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


class Interface:
    """A signature compiled for the request path."""

    __slots__ = ("inputs", "output_names", "outputs")

    def __init__(self, signature: Signature) -> None:
        self.inputs = {spec.name: Port(spec) for spec in signature.inputs}
        self.outputs = {spec.name: Port(spec) for spec in signature.outputs}
        self.output_names = list(self.outputs)
