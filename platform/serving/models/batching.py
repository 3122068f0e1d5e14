"""Running the rows of several requests together: when it pays, and how they are joined and parted again.

A model takes so many seconds for a call and so many more for each row. The first are saved for every request that joins
another, so joining pays where they are a good part of the whole; both are learned from the calls themselves.
"""

from collections.abc import Sequence

import numpy as np

from ..formats import Array, Feeds
from ..protocol.tensors import Interface
from ..protocol.v2 import Question

#: The share of a call's time that one more request must save.
_WORTH = 0.1
_MEMORY = 0.97
_ENOUGH = 5.0
_SAME_ROWS = 1e-9
#: Single calls after which joining is tried again.
_RETRY_AFTER = 1000


class RowsEntangled(Exception):
    """Raised when a model does not answer row by row."""


Shape = tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]


class Gain:
    """Learns what a call costs; a straight line through seconds over rows, in which older calls count less."""

    __slots__ = ("_alone", "_n", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._alone = 0
        self._forget()

    def _forget(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        """Take the time of one call over."""
        self._n = self._n * _MEMORY + 1
        self._x = self._x * _MEMORY + rows
        self._y = self._y * _MEMORY + seconds
        self._xx = self._xx * _MEMORY + rows * rows
        self._xy = self._xy * _MEMORY + rows * seconds

    def pays(self) -> bool:
        """Tell whether a request saves time by joining another; until it is known they are joined to find out."""
        spread = self._n * self._xx - self._x * self._x
        if self._n < _ENOUGH or spread <= _SAME_ROWS * self._xx * self._n:
            return True
        per_row = (self._n * self._xy - self._x * self._y) / spread
        per_call = (self._y - per_row * self._x) / self._n
        if per_call >= _WORTH * self._y / self._n:
            return True
        self._alone += 1
        if self._alone > _RETRY_AFTER:
            self._alone = 0
            self._forget()
        return False


def can_join(interface: Interface) -> bool:
    """Tell whether the signature lets rows be joined: the first dimension of every tensor takes any size."""
    ports = [*interface.inputs.values(), *interface.outputs.values()]
    return all(port.shape and port.shape[0] == -1 for port in ports)


def rows_of(question: Question) -> int:
    """Return the rows of a request, 0 when its inputs do not agree on them."""
    lengths = {len(array) for array in question.feeds.values()}
    return lengths.pop() if len(lengths) == 1 else 0


def shape_of(question: Question) -> Shape:
    """Return what two requests must have in common to be joined: the outputs asked for, and the shape of a row."""
    return tuple(question.outputs), tuple(question.feeds[name].shape[1:] for name in sorted(question.feeds))


def join(questions: Sequence[Question]) -> Feeds:
    """Put the rows of requests of one shape below each other."""
    return {name: np.concatenate([question.feeds[name] for question in questions]) for name in questions[0].feeds}


def part(arrays: Sequence[Array], rows: Sequence[int]) -> list[list[Array]]:
    """Give each request its rows of the outputs.

    Raises:
        RowsEntangled: If an output does not have one row for each row of the input.
    """
    total = sum(rows)
    if any(array.ndim == 0 or len(array) != total for array in arrays):
        raise RowsEntangled
    ends = np.cumsum(rows)
    return [[array[end - count : end] for array in arrays] for end, count in zip(ends, rows, strict=True)]
