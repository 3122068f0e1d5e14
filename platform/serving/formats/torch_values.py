"""Arrays to torch tensors and back, for the formats of torch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import ModelBroken, ModelFailed
from ..published.table import Signature
from . import Array, Feeds

_TEXTS = "BYTES"


class TorchModel:
    """A callable of torch that takes the signature's inputs in their order, and gives its outputs in theirs.

    An answer may be one tensor, a tuple or list of them, or a dictionary by the names of the outputs.
    """

    def __init__(self, module: Callable[..., Any], signature: Signature, size_bytes: int, device: str = "cpu") -> None:
        if texts := [spec.name for spec in (*signature.inputs, *signature.outputs) if spec.datatype == _TEXTS]:
            raise ModelBroken(f"torch knows no texts, and the signature has {texts} as BYTES.")
        self._module = module
        self._device = device
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self.size_bytes = size_bytes

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """Compute the named outputs.

        Raises:
            ModelFailed: If the module refuses these values, or answers with something else than its signature says.
        """
        try:
            with torch.inference_mode():
                answer = self._module(*[self._tensor(feeds[name]) for name in self._inputs])
        except Exception as error:  # a program may raise anything
            raise ModelFailed(f"The model refuses the input: {_last_line(error)}") from error
        named = self._named(answer)
        return [_array(name, named[name]) for name in outputs]

    def _tensor(self, array: Array) -> torch.Tensor:
        # What came over the wire is read only, and torch warns of that.
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self._device)

    def _named(self, answer: Any) -> dict[str, Any]:
        if isinstance(answer, dict):
            values = answer
        elif isinstance(answer, tuple | list):
            values = dict(zip(self._outputs, answer, strict=False))
        else:
            values = {self._outputs[0]: answer}
        if missing := [name for name in self._outputs if name not in values]:
            raise ModelFailed(f"The model's answer lacks the outputs {missing} of its signature.")
        return values


def _array(name: str, value: Any) -> Array:
    if not isinstance(value, torch.Tensor):
        raise ModelFailed(f"The model's output {name!r} is no tensor.")
    array: Array = value.detach().cpu().numpy()
    return array


def first_line(error: Exception) -> str:
    """Return what torch says, without the C++ frames below."""
    return str(error).strip().partition("\n")[0]


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
