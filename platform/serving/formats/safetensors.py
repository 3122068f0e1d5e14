"""Safetensors with an architecture that the platform implements itself, in numpy; the file holds numbers alone.

The architecture stands in the file's metadata under ``raymill``, as JSON: what the trainers write.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import ModelBroken
from ..published.table import Signature
from . import Array, PoolModel
from .tabular_network import TabularNetwork

METADATA = "raymill"

_ARCHITECTURES: dict[str, Callable[[dict[str, Any], dict[str, Array]], PoolModel]] = {
    "tabular-network": TabularNetwork.build,
}


def load(path: Path, signature: Signature) -> PoolModel:
    """Build the network that the file describes.

    Raises:
        ModelBroken: If the file is damaged, names no known architecture, or does not fit it or the signature.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelBroken(f"The file is not readable as safetensors: {error}") from error
    model = _build(metadata, tensors)
    wanted, given = {spec.name for spec in signature.outputs}, _outputs(model)
    if not wanted <= given:
        raise ModelBroken(f"The network gives {sorted(given)} and the signature wants {sorted(wanted)}.")
    return model


def _build(metadata: dict[str, str], tensors: dict[str, Array]) -> PoolModel:
    try:
        config = json.loads(metadata[METADATA])
        build = _ARCHITECTURES[config["architecture"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelBroken(
            f"The safetensors file names no architecture that this platform implements ({[*_ARCHITECTURES]})."
        ) from error
    try:
        return build(config, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelBroken(f"The tensors do not make the network that the file describes: {error!r}") from error


def _outputs(model: PoolModel) -> set[str]:
    return {model.output} if isinstance(model, TabularNetwork) else set()
