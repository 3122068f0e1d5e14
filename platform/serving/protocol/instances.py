"""The simple form: ``{"instances": [row, …]}`` in, ``{"predictions": [row, …]}`` out; other forms of rows: ``rows``.

A row is a list of features, or an object keyed by column; for models of several inputs an object keyed by column, or
by input where the inputs have no columns. A column that may be empty may be null or absent.
A model of one output answers one value (or list) per row, a model of several an object keyed by output.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ..errors import InputRefused, ModelFailed, RequestRefused
from ..formats import Array
from .rows import rows_in, rows_of_csv
from .tensors import Interface, Port
from .v2 import JSON_LENGTH, Answer, Question, Target, read_json
from .wording import AT_ONCE, with_predictions

_CSV = b"text/csv"


class _Predict(Question):
    __slots__ = ("_count",)

    def __init__(self, feeds: dict[str, Array], outputs: list[str], count: int) -> None:
        # Not by the parent's: a call of its own costs as much as all of these.
        self.feeds, self.outputs, self._count = feeds, outputs, count

    def answer(self, arrays: list[Array]) -> Answer:
        predictions = arrays[0] if len(arrays) == 1 else _rows(self.outputs, arrays, self._count)
        if isinstance(predictions, list) or predictions.dtype.kind != "O":
            if not isinstance(predictions, list) and predictions.size > AT_ONCE:
                return Answer(with_predictions(predictions))
            return Answer(orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY))
        return Answer(orjson.dumps({"predictions": predictions.tolist()}))


def predict(target: Target, body: bytes, headers: Mapping[bytes, bytes]) -> Question:
    """Read one request in the simple form.

    Raises:
        UnreadableBody: If the body is not JSON.
        ValidationFailed: If the rows do not fit the model's signature.
    """
    if JSON_LENGTH in headers:
        raise RequestRefused("'predict' takes no binary tensors; send them to 'infer'.")
    interface = target.interface
    if headers.get(b"content-type", b"").startswith(_CSV):
        rows = rows_of_csv(body, interface)
    else:
        rows = rows_in(read_json(body), interface)
    return _Predict(_feeds(interface, rows), interface.output_names, len(rows))


def _feeds(interface: Interface, rows: list[Any]) -> dict[str, Array]:
    ports = list(interface.inputs.values())
    if not _is_keyed_by(interface, rows[0]):
        if isinstance(rows[0], dict) and interface.columns is not None:
            return _from_columns(interface, interface.columns, rows)
        if len(ports) == 1:
            return {ports[0].name: _single(ports[0], rows)}
        if not isinstance(rows[0], dict):
            keys = "column" if interface.columns is not None else "input"
            raise RequestRefused(f"The model takes several inputs; send each row as an object keyed by {keys}.")
    return {
        port.name: _column(port, [_value(row, port.name, index) for index, row in enumerate(rows)]) for port in ports
    }


def _is_keyed_by(interface: Interface, row: Any) -> bool:
    return isinstance(row, dict) and row.keys() == interface.inputs.keys()


def _single(port: Port, rows: list[Any]) -> Array:
    if isinstance(rows[0], dict):
        raise InputRefused(port.name, "the signature names no columns; send each row as a list.")
    return _column(port, rows)


def _from_columns(interface: Interface, columns: frozenset[str], rows: list[Any]) -> dict[str, Array]:
    for index, row in enumerate(rows):
        _check_columns(interface, columns, row, index)
    return {
        port.name: _column(port, [_by_column(port, row, index) for index, row in enumerate(rows)])
        for port in interface.inputs.values()
    }


def _check_columns(interface: Interface, columns: frozenset[str], row: Any, index: int) -> None:
    if not isinstance(row, dict):
        name = next(iter(interface.inputs))
        raise InputRefused(name, f"row {index} must be an object keyed by column, as the first row is.")
    if not row.keys() <= columns:
        for column in row.keys() - columns - interface.ignored:
            raise InputRefused(column, f"row {index} has a column {column!r} that the model does not know.")


def _by_column(port: Port, row: dict[str, Any], index: int) -> list[Any]:
    columns: Sequence[str] = port.columns or ()
    if port.nullable:
        return [row.get(column) if column in port.nullable else _value(row, column, index) for column in columns]
    return [_value(row, column, index) for column in columns]


def _value(row: Any, key: str, index: int) -> Any:
    try:
        return row[key]
    except (KeyError, TypeError):
        raise InputRefused(key, f"row {index} does not have it.") from None


def _column(port: Port, values: list[Any]) -> Array:
    array = port.array(values)
    if array.ndim + 1 == len(port.shape) and port.shape[-1] == 1:
        array = array[..., None]
    port.check_shape(array.shape)
    return array


def _rows(names: list[str], arrays: list[Array], count: int) -> list[dict[str, Any]]:
    if any(array.ndim == 0 or len(array) != count for array in arrays):
        raise ModelFailed("The model does not answer one row per instance; use 'infer'.")
    columns = [array.tolist() for array in arrays]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
