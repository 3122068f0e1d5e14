"""TorchScript: a program of torch's own, which may open files and more; never for the pool."""

from pathlib import Path
from typing import Any

import torch

from ..errors import ModelBroken
from ..published.table import Signature
from .torch_values import TorchModel, first_line


def load(path: Path, signature: Signature) -> TorchModel:
    """Load a file that ``torch.jit.save`` wrote.

    Raises:
        ModelBroken: If torch cannot read it.
    """
    read: Any = torch.jit.load  # torch does not type it
    # Ray shows a process the GPUs that it was given, and no others.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        module = read(str(path), map_location=device)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelBroken(f"torch cannot load the TorchScript file: {first_line(error)}") from error
    module.eval()
    return TorchModel(module, signature, path.stat().st_size, device)
