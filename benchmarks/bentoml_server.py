"""BentoML around one ONNX model, by its own service and command: one worker, no login, no metrics, no access log."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from onnx_model import OnnxModel

MODEL = "BENCHMARK_MODEL"


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Digits:
    def __init__(self) -> None:
        self._model = OnnxModel(os.environ[MODEL])

    @bentoml.api(route="/predict")
    async def predict(self, instances: np.ndarray) -> dict[str, Any]:
        return {"predictions": self._model.predict(instances).tolist()}


def main(model: str, port: str) -> None:
    """Become the server."""
    here = Path(__file__)
    command = [sys.executable, "-m", "bentoml", "serve", f"{here.stem}:Digits", "--working-dir", str(here.parent)]
    os.environ.update({MODEL: model, "BENTOML_DO_NOT_TRACK": "true"})
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", port, "-q"])  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
