"""The model formats: one small file each, imported when the first model of the format is loaded.

The pool takes formats that cannot run code of their own, for they share a process with tokens and grants. The others
are programs, and run in apps of their own (the dedicated tier), which take the pool's formats too.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelBroken
from ..published.table import Signature

Array = NDArray[Any]
Feeds = Mapping[str, NDArray[Any]]


class RunHalted(Exception):
    """Raised in place of an answer when a run was ended by its halt."""


class Halt(Protocol):
    """Ends the one run that it was given to, as soon as another thread sets ``terminate``."""

    terminate: bool


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


class PoolModel(Model, Protocol):
    """A model that shares its process with others', whom a run that does not end would hold up."""

    def halt(self) -> Halt | None:
        """Return what ends one run; None where its length shows in the shapes of the input."""
        ...

    def run(self, outputs: Sequence[str], feeds: Feeds, halt: Halt | None = None) -> list[Array]:
        """Compute the named outputs from arrays that fit the signature.

        Raises:
            ModelFailed: If the model refuses these values.
            RunHalted: If the halt was set.
        """
        ...


Loader = Callable[[Path, Signature], Model]
PoolLoader = Callable[[Path, Signature], PoolModel]

#: What the pool takes, in the order in which it prefers them.
POOL_FORMATS = ("onnx", "safetensors")
#: What runs code when it is loaded or asked.
PROGRAM_FORMATS = ("torchscript", "torch-export", "keras", "saved-model", "skops")


def loader_of(format_name: str) -> PoolLoader:
    """Return the loader of a format of the pool.

    Raises:
        ModelBroken: If the pool does not serve this format.
    """
    if format_name in PROGRAM_FORMATS:
        raise ModelBroken(
            f"The pool does not serve {format_name!r}: such a file is a program, and runs in the dedicated tier alone."
        )
    if format_name not in POOL_FORMATS:
        raise ModelBroken(f"The pool does not serve the format {format_name!r}; it serves {[*POOL_FORMATS]}.")
    loader: PoolLoader = _imported(format_name)
    return loader


def program_loader_of(format_name: str) -> Loader:
    """Return the loader of any format, for a process that holds nothing but the model.

    Raises:
        ModelBroken: If this platform does not know the format, or lacks the library that reads it.
    """
    if format_name not in POOL_FORMATS + PROGRAM_FORMATS:
        raise ModelBroken(f"This platform does not know the format {format_name!r}.")
    try:
        loader: Loader = _imported(format_name)
    except ModuleNotFoundError as error:
        raise ModelBroken(f"The format {format_name!r} needs {error.name!r}, which is not installed here.") from error
    return loader


def _imported(format_name: str) -> Any:
    return import_module(f".{format_name.replace('-', '_')}", __package__).load


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
