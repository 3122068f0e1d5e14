"""LitServe around one ONNX model: one inference worker, no login, no metrics, no log."""

import sys
from typing import Any

import litserve
from onnx_model import OnnxModel


class Digits(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = OnnxModel(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["instances"]

    def predict(self, instances: Any) -> Any:
        return self.model.predict(instances)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
