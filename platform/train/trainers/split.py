"""Which rows a tabular trainer keeps for validation; the seed decides, so that others can find them again."""

import numpy as np
import numpy.typing as npt


def shuffled_rows(row_count: int, *, seed: int) -> npt.NDArray[np.int64]:
    """Return the row numbers in the order in which they are learned."""
    return np.random.default_rng(seed).permutation(row_count)


def held_out_count(row_count: int, share: float) -> int:
    """Return how many of the first shuffled rows are never learned from."""
    return max(1, round(row_count * share))
