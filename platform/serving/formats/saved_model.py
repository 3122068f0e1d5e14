"""TensorFlow's SavedModel, as a zip of its folder: a program, which may read and write files; never for the pool."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf

from ..errors import ModelBroken, ModelFailed
from ..published.table import Signature
from . import Array, Feeds
from .tensorflow_values import arrays_of, tensors_of

_DOOR = "serving_default"
_MARK = "saved_model.pb"


class SavedModel:
    """The signature ``serving_default`` of a SavedModel."""

    def __init__(self, loaded: Any, signature: Signature, size_bytes: int) -> None:
        # Variables live as long as the object that holds them.
        self._loaded = loaded
        self._function = loaded.signatures[_DOOR]
        self._signature = signature
        self.size_bytes = size_bytes

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """Compute the named outputs.

        Raises:
            ModelFailed: If the function refuses these values.
        """
        try:
            answer = self._function(**tensors_of(self._signature.inputs, feeds))
        except Exception as error:  # a program may raise anything
            raise ModelFailed(f"The model refuses the input: {error}") from error
        return arrays_of(self._signature.outputs, outputs, answer)


def load(path: Path, signature: Signature) -> SavedModel:
    """Load the zip of a folder that ``tf.saved_model.save`` or ``model.export`` wrote.

    Raises:
        ModelBroken: If TensorFlow cannot read it, or it has no ``serving_default``.
    """
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                # zipfile keeps members within the folder, whatever their names say.
                archive.extractall(folder)
            loaded = tf.saved_model.load(_root(Path(folder)))
        except Exception as error:  # TensorFlow raises classes of its own without a root
            raise ModelBroken(f"TensorFlow cannot load the SavedModel: {error}") from error
    if _DOOR not in loaded.signatures:
        raise ModelBroken(f"The SavedModel has no signature {_DOOR!r}; it has {sorted(loaded.signatures)}.")
    return SavedModel(loaded, signature, path.stat().st_size)


def _root(folder: Path) -> str:
    found = sorted(folder.rglob(_MARK), key=lambda path: len(path.parts))
    if not found:
        raise FileNotFoundError(f"the zip holds no {_MARK}")
    return str(found[0].parent)
