"""The formats of models, told by the names of their files, and what a file says of itself without being run."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from pydantic import ValidationError

from .errors import BadSafetensors, BadSignature
from .models import Artifact
from .schemas import ArtifactType, Datatype, Signature, TensorSpec

#: Endings of file names by format; the preferred format first, programs last.
ENDINGS = {
    "onnx": ".onnx",
    "safetensors": ".safetensors",
    "torchscript": ".pt",
    "torch-export": ".pt2",
    "keras": ".keras",
    "saved-model": ".savedmodel.zip",
    "skops": ".skops",
}
#: What is opened when a version is completed, to see whether it can be served and what it takes.
OPENED = ("onnx", "safetensors")
_METADATA = "raymill"
_MAX_HEADER_BYTES = 16 << 20


def format_of(filename: str) -> str | None:
    """Return the format of a file of this name, None if it is none of a model."""
    lower = filename.lower()
    return next((name for name, ending in ENDINGS.items() if lower.endswith(ending)), None)


def find_model(artifacts: Sequence[Artifact], formats: Collection[str]) -> tuple[str, Artifact] | None:
    """Return the format and file to serve, of those formats that are wanted."""
    files = [(format_of(one.path), one) for one in artifacts if one.type == ArtifactType.MODEL]
    for name in ENDINGS:
        # The shortest path first: ``model.onnx`` before ``parts/encoder.onnx``.
        found = [one for format_name, one in files if format_name == name and name in formats]
        if found:
            return name, min(found, key=lambda artifact: (artifact.path.count("/"), artifact.path))
    return None


def read_safetensors_signature(path: Path) -> Signature | None:
    """Return the signature in the metadata of a safetensors file that a trainer wrote; None if it holds weights alone.

    Raises:
        BadSafetensors: If the file is none.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= _MAX_HEADER_BYTES:
            raise BadSafetensors("The file is not safetensors: its header has no sound length.")
        content = file.read(size)
    try:
        described = json.loads(content).get("__metadata__", {}).get(_METADATA)
        return None if described is None else Signature.model_validate(json.loads(described)["signature"])
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise BadSafetensors("The file is not safetensors, or its description is damaged.") from error


def check_signature(given: Signature, own: Signature) -> Signature:
    """Return the given signature when it tells of the same tensors as its file.

    Raises:
        BadSignature: If names, datatypes or numbers of dimensions differ.
    """
    for kind, said, real in (("inputs", given.inputs, own.inputs), ("outputs", given.outputs, own.outputs)):
        if _outline(said) != _outline(real):
            raise BadSignature(
                f"The signature's {kind} are not those of the file.",
                details={"given": [one.model_dump() for one in said], "file": [one.model_dump() for one in real]},
            )
    return given


def _outline(tensors: list[TensorSpec]) -> list[tuple[str, Datatype, int]]:
    return sorted((one.name, one.datatype, len(one.shape)) for one in tensors)
