"""Rows in the forms of MLflow's scoring server: data frames in JSON, column-wise inputs, and CSV.

Source: "MLflow scoring server" in MLflow 3's documentation; of its keys exactly one is taken. CSV has a line of column
names first, and an empty cell is null.
"""

import csv
from collections.abc import Callable
from io import StringIO
from math import isnan
from typing import Any

from ...kernel.errors import UnreadableBody
from ..errors import InputRefused, RequestRefused
from .tensors import Interface

_TRUTH = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}


def rows_in(document: dict[str, Any], interface: Interface) -> list[Any]:
    """Return the rows of a request in JSON, in the form of 'instances'.

    Raises:
        RequestRefused: If there are none, or more than one form was used.
    """
    if len(document) == 1 and isinstance(rows := document.get("instances"), list) and rows:
        return rows
    forms = [form for form in _FORMS if form in document]
    if len(forms) != 1:
        raise RequestRefused(f"The body needs exactly one of {', '.join(map(repr, _FORMS))}.")
    if document.get("params"):
        raise RequestRefused("'params' is not taken: this platform's models have no parameters at prediction.")
    rows = _FORMS[forms[0]](document[forms[0]], interface)
    if not isinstance(rows, list) or not rows:
        raise RequestRefused(f"'{forms[0]}' must hold at least one row.")
    return rows


def rows_of_csv(body: bytes, interface: Interface) -> list[Any]:
    """Return the rows of a CSV file, in the form of 'instances'.

    Raises:
        UnreadableBody: If it is not CSV in UTF-8.
        RequestRefused: If it has no rows.
    """
    try:
        names, *lines = [line for line in csv.reader(StringIO(body.decode("utf-8-sig")), strict=True) if line]
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UnreadableBody(f"The body is not CSV in UTF-8 with a line of column names: {error}.") from error
    if not lines:
        raise RequestRefused("The CSV needs at least one row below the line of column names.")
    readers = [_reader(interface, name.strip()) for name in names]
    return _split([name.strip() for name in names], [_cells(readers, line) for line in lines], interface)


def _cells(readers: list[Callable[[str], Any]], line: list[str]) -> list[Any]:
    # A line of another length is refused with its number further on.
    return [read(cell) for read, cell in zip(readers, line, strict=False)] if len(line) == len(readers) else line


def _reader(interface: Interface, column: str) -> Callable[[str], Any]:
    ports = list(interface.inputs.values())
    port = next((port for port in ports if column in (port.columns or (port.name,))), None)
    if port is None and len(ports) == 1:
        port = ports[0]
    kind = port.dtype.kind if port else "O"

    def read(cell: str) -> Any:
        text = cell.strip()
        if not text:
            return None
        try:
            return _value(text, kind)
        except (ValueError, KeyError):
            # A date, or something that the input refuses by its row and column.
            return text

    return str if kind == "O" and not (port and column in port.nullable) else read


def _value(text: str, kind: str) -> Any:
    if kind == "b":
        return _TRUTH[text]
    if kind in "iu":
        return int(text)
    if kind == "O":
        return text
    number = float(text)
    return None if isnan(number) else number


def _as_they_are(given: Any, interface: Interface) -> Any:
    return given


def _inputs(given: Any, interface: Interface) -> Any:
    """Turn values by input, or by column, into rows."""
    if not isinstance(given, dict):
        return given
    columns = list(given.values())
    if not columns or not all(isinstance(column, list) for column in columns) or len({*map(len, columns)}) != 1:
        raise RequestRefused("'inputs' as an object needs lists of one length.")
    return [dict(zip(given, values, strict=True)) for values in zip(*columns, strict=True)]


def _frame(given: Any, interface: Interface) -> Any:
    if not isinstance(given, dict) or not isinstance(given.get("data"), list):
        raise RequestRefused("'dataframe_split' needs 'columns' and 'data', a list of rows.")
    columns = given.get("columns")
    if columns is not None and not isinstance(columns, list):
        raise RequestRefused("'columns' of 'dataframe_split' must be a list.")
    return _split(columns, given["data"], interface)


def _split(columns: list[Any] | None, lines: list[Any], interface: Interface) -> list[Any]:
    """Join names and values where the model knows names; where it does not, the order counts."""
    for number, line in enumerate(lines):
        if not isinstance(line, list) or (columns is not None and len(line) != len(columns)):
            raise RequestRefused(f"Row {number} must be a list with one value for each of the columns.")
    if columns is None or all(type(column) is int for column in columns):
        return lines
    if not all(isinstance(column, str) for column in columns) or len({*columns}) != len(columns):
        raise RequestRefused("The names of the columns must be texts, and none may come twice.")
    if interface.columns is None and {*columns} != interface.inputs.keys():
        return _in_order(columns, lines, interface)
    return [dict(zip(columns, line, strict=True)) for line in lines]


def _in_order(columns: list[str], lines: list[Any], interface: Interface) -> list[Any]:
    if len(interface.inputs) > 1:
        raise InputRefused(columns[0], f"the columns must be named as the inputs are: {list(interface.inputs)}.")
    return lines


_FORMS: dict[str, Callable[[Any, Interface], Any]] = {
    "instances": _as_they_are,
    "inputs": _inputs,
    "dataframe_split": _frame,
    "dataframe_records": _as_they_are,
}
