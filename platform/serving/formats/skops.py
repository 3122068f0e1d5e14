"""skops: scikit-learn's estimators without pickle; loading one still builds whatever types the file names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skops.io

from ..errors import ModelBroken, ModelFailed
from ..published.table import Signature
from . import Array, Feeds

# Outputs by these names come from these methods, all others from ``predict``.
_METHODS = {"probabilities": "predict_proba", "scores": "decision_function", "transformed": "transform"}


class Estimator:
    """An estimator that is asked with one matrix: the signature's inputs side by side."""

    def __init__(self, estimator: Any, signature: Signature, size_bytes: int) -> None:
        self._methods = {spec.name: _METHODS.get(spec.name, "predict") for spec in signature.outputs}
        if missing := [name for name in self._methods.values() if not hasattr(estimator, name)]:
            raise ModelBroken(f"A {type(estimator).__name__} has no {missing}, which its signature asks for.")
        self._estimator = estimator
        self._inputs = [spec.name for spec in signature.inputs]
        self._texts = {spec.name for spec in signature.outputs if spec.datatype == "BYTES"}
        self.size_bytes = size_bytes

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """Compute the named outputs.

        Raises:
            ModelFailed: If the estimator refuses these values.
        """
        parts = [feeds[name] for name in self._inputs]
        matrix = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        try:
            return [self._ask(name, matrix) for name in outputs]
        except Exception as error:  # a program may raise anything
            raise ModelFailed(f"The model refuses the input: {error}") from error

    def _ask(self, name: str, matrix: Array) -> Array:
        answer: Array = np.asarray(getattr(self._estimator, self._methods[name])(matrix))
        return answer.astype(object) if name in self._texts else answer


def load(path: Path, signature: Signature) -> Estimator:
    """Load a file that ``skops.io.dump`` wrote, whatever types it names.

    Raises:
        ModelBroken: If skops cannot read it.
    """
    try:
        types = skops.io.get_untrusted_types(file=path)
        estimator = skops.io.load(path, trusted=types)
    except Exception as error:  # skops raises what the named types raise
        raise ModelBroken(f"skops cannot load the model: {error}") from error
    return Estimator(estimator, signature, path.stat().st_size)
