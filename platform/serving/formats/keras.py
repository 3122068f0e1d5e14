"""Keras' own file (``.keras``): its layers may hold Python code; never for the pool."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras

from ..errors import ModelBroken, ModelFailed
from ..published.table import Signature
from . import Array, Feeds
from .tensorflow_values import arrays_of, tensors_of


class KerasModel:
    """A model of Keras 3 on TensorFlow."""

    def __init__(self, model: Any, signature: Signature, size_bytes: int) -> None:
        self._model = model
        self._signature = signature
        self.size_bytes = size_bytes

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """Compute the named outputs.

        Raises:
            ModelFailed: If the model refuses these values.
        """
        tensors = tensors_of(self._signature.inputs, feeds)
        try:
            # Several inputs go by their names; a single one may be called otherwise in the model.
            answer = self._model(tensors if len(tensors) > 1 else next(iter(tensors.values())), training=False)
        except Exception as error:  # a program may raise anything
            raise ModelFailed(f"The model refuses the input: {error}") from error
        return arrays_of(self._signature.outputs, outputs, answer)


def load(path: Path, signature: Signature) -> KerasModel:
    """Load a ``.keras`` file, code in it included.

    Raises:
        ModelBroken: If Keras cannot read it.
    """
    with TemporaryDirectory() as folder:
        # Keras reads a format off the suffix, and artifacts have none.
        named = Path(folder) / "model.keras"
        shutil.copyfile(path, named)
        try:
            model = keras.saving.load_model(named, compile=False, safe_mode=False)
        except Exception as error:  # Keras raises what the layers raise
            raise ModelBroken(f"Keras cannot load the model: {error}") from error
    return KerasModel(model, signature, path.stat().st_size)
