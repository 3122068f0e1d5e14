"""The network of the tabular trainers in numpy: raw columns in, probabilities or one number per row out.

It does what the trainer's ONNX file says: dates less their origin, the mean for an empty number, one number per
frequent text (one-hot), scaling, dense layers with ReLU between them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ModelFailed
from . import Array, Feeds, Halt

_NUMBERS, _MOMENTS, _CATEGORIES = "input", "dates", "categories"
_PROBABILITIES = "probabilities"


class TabularNetwork:
    """Weights and encoding of one network; everything is read only, so threads may share it."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, Array]) -> None:
        encoding = config["encoding"]
        self.output: str = config["output"]
        self._mean, self._deviation = tensors["mean"], tensors["deviation"]
        depth = sum(name.endswith(".weight") for name in tensors)
        self._layers = [(tensors[f"layers.{n}.weight"].T, tensors[f"layers.{n}.bias"]) for n in range(depth)]
        self._numbers, self._moments = list(encoding["numbers"]), list(encoding["dates"])
        self._origins = np.array(list(encoding["dates"].values()), np.float64)
        self._codes = [{text: code for code, text in enumerate(texts)} for texts in encoding["categories"].values()]
        numeric = [*self._numbers, *self._moments]
        has_gaps = not set(encoding["nullable"]).isdisjoint(numeric)
        self._fill = np.array([encoding["fill"][name] for name in numeric], np.float32) if has_gaps else None
        self.size_bytes = sum(tensor.nbytes for tensor in tensors.values())

    @classmethod
    def build(cls, config: dict[str, Any], tensors: dict[str, Array]) -> "TabularNetwork":
        """Build the network and make sure that its parts fit each other.

        Raises:
            KeyError: If a tensor or an entry is missing.
            ValueError: If the shapes do not fit.
        """
        network = cls(config, tensors)
        network._infer(np.zeros((1, len(network._mean)), np.float32))
        width = len(network._numbers) + len(network._moments) + sum(map(len, network._codes))
        if width != len(network._mean):
            raise ValueError(f"the columns make {width} features and the network takes {len(network._mean)}")
        return network

    def halt(self) -> None:
        """Return nothing: the rows alone say how long a run takes."""

    def run(self, outputs: Sequence[str], feeds: Feeds, halt: Halt | None = None) -> list[Array]:
        """Compute the one output.

        Raises:
            ModelFailed: If the arrays do not fit each other.
        """
        try:
            answer = self._infer(self._encoded(feeds))
        except (KeyError, ValueError) as error:
            raise ModelFailed(f"The model refuses the input: {error}") from error
        return [answer for _ in outputs]

    def _encoded(self, feeds: Feeds) -> Array:
        parts: list[Array] = [feeds[_NUMBERS]] if self._numbers else []
        if self._moments:
            parts.append((feeds[_MOMENTS] - self._origins).astype(np.float32))
        if parts and self._fill is not None:
            raw = np.concatenate(parts, axis=1)
            parts = [np.where(np.isnan(raw), self._fill, raw)]
        hot = [_one_hot(feeds[_CATEGORIES][:, column], codes) for column, codes in enumerate(self._codes)]
        return np.concatenate([*parts, *hot], axis=1)

    def _infer(self, features: Array) -> Array:
        activation = (features - self._mean) / self._deviation
        for weight, bias in self._layers[:-1]:
            activation = np.maximum(activation @ weight + bias, 0)
        weight, bias = self._layers[-1]
        scores: Array = activation @ weight + bias
        return _softmax(scores) if self.output == _PROBABILITIES else scores[:, 0]


def _one_hot(texts: Array, codes: dict[str, int]) -> Array:
    hot = np.zeros((len(texts), len(codes)), np.float32)
    for row, text in enumerate(texts):
        if (code := codes.get(text)) is not None:
            hot[row, code] = 1.0
    return hot


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares
