"""MLflow around one ONNX model: saved in its ONNX flavor and served by its own command, one worker, no access log."""

import os
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

THREADS = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}


def main(model: str, port: str) -> None:
    """Save the model as MLflow's own, then become the server."""
    loaded, saved = onnx.load(model), Path("mlflow-model").resolve()
    features = loaded.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    signature = ModelSignature(Schema([TensorSpec(np.dtype(np.float32), (-1, features))]))
    mlflow.onnx.save_model(loaded, saved, signature=signature, onnx_session_options=THREADS)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(saved), "--env-manager", "local"]
    # Its command starts uvicorn by the name that is on the path.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ.update({"PATH": path, "UVICORN_ACCESS_LOG": "false", "UVICORN_LOG_LEVEL": "warning"})
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", port, "--workers", "1"])  # noqa: S606


if __name__ == "__main__":
    main(*sys.argv[1:])
