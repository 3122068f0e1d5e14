"""The model formats of the pool: one small file each, imported when the first model of the format is loaded.

Only formats that cannot run code of their own belong here; they share a process with tokens and grants.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelBroken
from ..table import Signature

Array = NDArray[Any]
Feeds = Mapping[str, NDArray[Any]]


class Model(Protocol):
    """A loaded model; ``run`` may be called from several threads at a time."""

    @property
    def size_bytes(self) -> int:
        """Memory that the model holds, estimated."""
        ...

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """Compute the named outputs from arrays that fit the signature.

        Raises:
            ModelFailed: If the model refuses these values.
        """
        ...


Loader = Callable[[Path, Signature], Model]

_MODULES = {"onnx": "onnx"}


def loader_of(format_name: str) -> Loader:
    """Return the loader of a format.

    Raises:
        ModelBroken: If the pool does not serve this format.
    """
    module = _MODULES.get(format_name)
    if module is None:
        raise ModelBroken(f"This platform's pool does not serve the format {format_name!r}; it serves {[*_MODULES]}.")
    loader: Loader = import_module(f".{module}", __package__).load
    return loader


DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""The Open Inference Protocol's datatypes and the arrays that hold them."""
