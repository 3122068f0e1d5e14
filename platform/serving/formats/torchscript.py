"""TorchScript: a program of torch's own, which may open files and more; never for the pool."""

from pathlib import Path
from typing import Any

import torch

from ..errors import ModelBroken
from ..table import Signature
from .torch_values import TorchModel


def load(path: Path, signature: Signature) -> TorchModel:
    """Load a file that ``torch.jit.save`` wrote.

    Raises:
        ModelBroken: If torch cannot read it.
    """
    read: Any = torch.jit.load  # torch does not type it
    try:
        module = read(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelBroken(f"torch cannot load the TorchScript file: {error}") from error
    module.eval()
    return TorchModel(module, signature, path.stat().st_size)
