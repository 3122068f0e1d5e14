"""The values of a tensor one by one: nulls, dates in words, and refusals that name the column."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np

from ..errors import InputRefused
from ..formats import Array

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_SHOWN = 40
_IS_NULL = np.frompyfunc(lambda value: value is None, 1, 1)


def days_of(text: str) -> float:
    """Read an ISO 8601 date, date with time, or time of day; what names no zone is UTC.

    Returns:
        Days since 1970-01-01 UTC, of a time of day the fraction of a day.

    Raises:
        ValueError: If it is none of these.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        clock = time.fromisoformat(text)
        moment = datetime.combine(_EPOCH.date(), clock)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) / _DAY


class Cells:
    """What is known of the columns of one tensor."""

    __slots__ = ("_columns", "_name", "_nullable")

    def __init__(self, name: str, columns: Sequence[str] | None, nullable: Sequence[str] | None) -> None:
        self._name = name
        self._columns = columns or ()
        self._nullable = frozenset(nullable or ())

    def filled(self, array: Array, substitute: Any) -> Array:
        """Put something in the place of each null.

        Raises:
            InputRefused: If one stands in a column that the model has not seen empty.
        """
        gaps = np.asarray(_IS_NULL(array), dtype=np.bool_)
        for number in np.flatnonzero(gaps):
            if self._column(array, int(number)) not in self._nullable:
                where = self._place(array, int(number))
                raise InputRefused(self._name, f"{where} is null, and the model takes no empty value there.")
        filled: Array = np.where(gaps, substitute, array) if gaps.any() else array
        return filled

    def in_days(self, array: Array) -> Array:
        """Replace dates and times in words by days, in place.

        Raises:
            InputRefused: If a text is neither.
        """
        for number, value in enumerate(array.flat):
            if type(value) is str:
                try:
                    array.flat[number] = days_of(value)
                except ValueError:
                    where = self._place(array, number)
                    reason = f"{where}: {_shown(value)} is no date or time of ISO 8601."
                    raise InputRefused(self._name, reason) from None
        return array

    def refusal(self, array: Array, fits: Callable[[Any], bool], reason: str) -> InputRefused:
        """Return an error that names the first value that does not fit."""
        for number, value in enumerate(array.flat):
            if not fits(value):
                where = self._place(array, number)
                return InputRefused(self._name, f"{where}: {reason}, not {_shown(value)}.")
        return InputRefused(self._name, f"{reason}.")

    def _column(self, array: Array, number: int) -> str | None:
        width = len(self._columns)
        return self._columns[number % width] if width and array.size % width == 0 else None

    def _place(self, array: Array, number: int) -> str:
        column = self._column(array, number)
        return f"value {number}" if column is None else f"row {number // len(self._columns)}, column {column!r}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
