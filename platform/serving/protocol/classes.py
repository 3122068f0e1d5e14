"""The classification extension of Triton's protocol: the likeliest classes of each row instead of all values.

Source: "Classification Extension" of Triton's protocol: texts ``value:index`` or ``value:index:label``.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import RequestRefused
from ..formats import Array
from ..published.table import Label


def top_classes(array: Array, count: int, labels: Sequence[Label] | None) -> Array:
    """Return the ``count`` largest values of each row, largest first, with index and label: objects [rows, count].

    Raises:
        RequestRefused: If the output is not numbers by row and class.
    """
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise RequestRefused("'classification' needs an output of numbers with two dimensions: rows and classes.")
    names = [f":{label}" for label in labels] if labels and len(labels) == array.shape[1] else [""] * array.shape[1]
    best = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = [[f"{row[index]}:{index}{names[index]}" for index in order] for row, order in zip(array, best, strict=True)]
    return np.array(texts, dtype=object).reshape(best.shape)
