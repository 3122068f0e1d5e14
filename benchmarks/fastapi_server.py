"""FastAPI on uvicorn, one worker, around one ONNX model and nothing else: no login, no metrics, no log."""

import sys

import uvicorn
from fastapi import FastAPI
from onnx_model import OnnxModel
from pydantic import BaseModel


class Instances(BaseModel):
    instances: list[list[float]]


class Predictions(BaseModel):
    predictions: list[list[float]]


def build(model_path: str) -> FastAPI:
    """Make the app; the endpoint is async, which for a model this small is faster than a thread per request."""
    model, app = OnnxModel(model_path), FastAPI()

    @app.post("/predict")
    async def predict(body: Instances) -> Predictions:
        return Predictions(predictions=model.predict(body.instances).tolist())

    return app


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[1]), port=int(sys.argv[2]), access_log=False, log_level="warning", timeout_keep_alive=60)
