"""Takes the values of named columns out of payloads before they are logged.

A value becomes null wherever it stands under the column's name, or at the column's place in a row or tensor that the
signature describes. A payload that is no JSON, or that does not look as the signature says, is left out whole: what
cannot be read cannot be cleared. This runs where the log is written, never in a request.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import structlog

from ..published.table import Signature

log = structlog.get_logger(__name__)

# Where the simple form and its answers hold rows.
_ROWS = ("instances", "inputs", "dataframe_records", "predictions")


class _Unknown(Exception):
    """Raised when the place of a column cannot be told."""


class Redaction:
    """What is taken out of the payloads of one revision: of its inputs, or of its outputs."""

    __slots__ = ("_answers", "_columns", "_names", "_only")

    def __init__(
        self, names: Iterable[str], columns: Mapping[str, Sequence[str] | None], *, answers: bool = False
    ) -> None:
        """Take out the named columns; ``columns`` are those of each tensor, where it has any."""
        self._names = frozenset(names)
        self._columns = columns
        self._answers = answers
        self._only = next(iter(columns)) if len(columns) == 1 else None

    def clear(self, content: bytes) -> bytes | None:
        """Return a payload without the values, None if it must be left out."""
        if not content:
            return content
        try:
            document = orjson.loads(content)
            if not isinstance(document, dict):
                return None
            return orjson.dumps({key: self._member(key, value) for key, value in document.items()})
        except (orjson.JSONDecodeError, _Unknown, RecursionError):
            return None
        except Exception:
            # A row that could not be written would stop all that come after it.
            log.exception("payload_not_redacted")
            return None

    def _member(self, key: str, value: Any) -> Any:
        if key in self._names:
            return None
        if key in ("inputs", "outputs") and _are_tensors(value):
            return [self._tensor(tensor) for tensor in value]
        if key in _ROWS:
            return self._rows(value, self._only)
        if key == "dataframe_split":
            return self._frame(value)
        return self._by_name(value)

    def _by_name(self, value: Any) -> Any:
        """Clear what stands under a name; lists under the name of a tensor hold its rows."""
        if isinstance(value, dict):
            return {key: self._named(key, inner) for key, inner in value.items()}
        return [self._by_name(inner) for inner in value] if isinstance(value, list) else value

    def _named(self, key: str, value: Any) -> Any:
        if key in self._names:
            return None
        return self._rows(value, key) if key in self._columns else self._by_name(value)

    def _rows(self, value: Any, tensor: str | None) -> Any:
        """Clear rows, or one row, of a tensor, by position where they are lists and by name where they are objects."""
        if isinstance(value, dict) or tensor is None:
            if _has_positions(value):
                raise _Unknown
            return self._by_name(value)
        if tensor in self._names:
            return None
        columns = self._columns[tensor]
        if columns is None or self._names.isdisjoint(columns):
            return self._by_name(value)
        return self._by_position(value, columns)

    def _by_position(self, value: Any, columns: Sequence[str]) -> Any:
        if not isinstance(value, list):
            raise _Unknown
        if any(isinstance(inner, list | dict) for inner in value):
            return [
                self._by_name(inner) if isinstance(inner, dict) else self._by_position(inner, columns)
                for inner in value
            ]
        if len(columns) == 1:
            return [None for _ in value]
        if len(value) != len(columns):
            raise _Unknown
        return [None if name in self._names else inner for name, inner in zip(columns, value, strict=True)]

    def _tensor(self, tensor: Mapping[str, Any]) -> dict[str, Any]:
        name, data = tensor["name"], tensor.get("data")
        if name not in self._columns:
            raise _Unknown
        columns = self._columns[name]
        if name in self._names:
            data = None
        elif columns and not self._names.isdisjoint(columns) and data is not None:
            # One bare value has no place, and classes stand by their rank.
            if not isinstance(data, list) or (self._answers and tensor.get("datatype") == "BYTES"):
                raise _Unknown
            data = self._flat(data, columns)
        return {**tensor, "data": data}

    def _flat(self, data: list[Any], columns: Sequence[str]) -> Any:
        """Clear a tensor's data, which may be nested or flat in row-major order."""
        if any(isinstance(inner, list) for inner in data):
            return self._by_position(data, columns)
        if len(data) % len(columns):
            raise _Unknown
        return [None if columns[place % len(columns)] in self._names else inner for place, inner in enumerate(data)]

    def _frame(self, frame: Any) -> Any:
        names = frame.get("columns") if isinstance(frame, dict) else None
        if not isinstance(frame, dict) or not isinstance(frame.get("data"), list):
            raise _Unknown
        if names is None or not all(isinstance(name, str) for name in names):
            return {**self._by_name(frame), "data": self._rows(frame["data"], self._only)}
        if not all(isinstance(row, list) and len(row) == len(names) for row in frame["data"]):
            raise _Unknown
        return {**self._by_name(frame), "data": [self._by_position(row, names) for row in frame["data"]]}


def redactions(names: Iterable[str], signature: Signature) -> tuple[Redaction, Redaction]:
    """Return what is taken out of the inputs and of the outputs of a revision."""
    first, *others = signature.outputs
    labels = first.columns if signature.labels is None else tuple(map(str, signature.labels))
    outputs = {first.name: labels} | {spec.name: spec.columns for spec in others}
    return Redaction(names, {spec.name: spec.columns for spec in signature.inputs}), Redaction(
        names, outputs, answers=True
    )


def _are_tensors(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(inner, dict) and isinstance(inner.get("name"), str) and "shape" in inner for inner in value
    )


def _has_positions(value: Any) -> bool:
    """Tell whether rows are lists, so that a column may hide at a place that nobody knows."""
    return isinstance(value, list) and any(isinstance(inner, list) for inner in value)
