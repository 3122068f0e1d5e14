"""torch.export: a graph with pickled parts, which may run code when loaded; never for the pool."""

import io
from pathlib import Path

import torch.export

from ..errors import ModelBroken
from ..published.table import Signature
from .torch_values import TorchModel, first_line


def load(path: Path, signature: Signature) -> TorchModel:
    """Load a file that ``torch.export.save`` wrote.

    Raises:
        ModelBroken: If torch cannot read it.
    """
    try:
        # From memory: by a path torch insists on the suffix .pt2.
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()
    except Exception as error:  # torch raises classes of pickle, zip and its own here, without a root
        raise ModelBroken(f"torch cannot load the exported program: {first_line(error)}") from error
    return TorchModel(module, signature, path.stat().st_size)
