"""How long a model takes: measured, to decide whether a request may run on the event loop itself.

A hop to a thread costs as much as a tiny model's whole answer, while a slow model on the loop holds up everybody else.
Requests are classed by the size of their body in powers of two; a class that was never measured counts as slow.
"""

from math import inf, nan

#: A request expected to take less than this runs on the event loop.
INLINE_S = 1e-3
_CLASSES = 48
_FALLING, _RISING = 0.5, 0.1


class Pace:
    """Expected seconds per class of body size."""

    __slots__ = ("_expected",)

    def __init__(self) -> None:
        self._expected = [inf] * _CLASSES

    def is_quick(self, size_bytes: int) -> bool:
        """Tell whether a request of this size is expected to be quick."""
        return self._expected[size_bytes.bit_length()] < INLINE_S

    def distrust(self) -> None:
        """Count every size as slow from now on: the size does not say how long a request takes."""
        # No number is less than nan, and what is learned on top of it is nan.
        self._expected = [nan] * _CLASSES

    def learn(self, size_bytes: int, seconds: float) -> None:
        """Take a measurement over: faster ones at once, slower ones slowly, for the machine may just be busy."""
        size_class = size_bytes.bit_length()
        expected = self._expected[size_class]
        if expected is inf:
            self._expected[size_class] = seconds
            return
        weight = _FALLING if seconds < expected else _RISING
        self._expected[size_class] = expected + weight * (seconds - expected)
