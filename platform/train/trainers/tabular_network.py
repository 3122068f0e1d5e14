"""The network of the tabular trainers: encoded features in, one score per class or the only number out."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn


class TabularNetwork(nn.Module):
    """A multilayer perceptron that scales its own input.

    Features of shape [rows, features] go in, scores of shape [rows, outputs] come out.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        mean: npt.NDArray[np.float32],
        deviation: npt.NDArray[np.float32],
        hidden_sizes: list[int],
        outputs: int,
    ) -> None:
        super().__init__()
        # Copied: arrays that came through Ray's object store cannot be written to.
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))
        sizes = [len(mean), *hidden_sizes, outputs]
        self.layers = nn.ModuleList(nn.Linear(size, following) for size, following in pairwise(sizes))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        activation = (features - self.mean) / self.deviation
        for layer in self.layers[:-1]:
            activation = torch.relu(layer(activation))
        scores: torch.Tensor = self.layers[-1](activation)
        return scores
