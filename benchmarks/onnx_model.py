"""The preparation that servers that are compared with have in common: a session of one thread, rows to float32."""

from typing import Any

import numpy as np
import onnxruntime


class OnnxModel:
    """An ONNX model of one input and one output, loaded with the options that the platform uses."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def predict(self, instances: list[list[float]]) -> Any:
        """Return the predictions as an array with a row per instance."""
        return self._session.run(None, {self._input: np.asarray(instances, np.float32)})[0]
