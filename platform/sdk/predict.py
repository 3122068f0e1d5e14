"""Predictions: the simple form and the Open Inference Protocol v2.

A prediction changes nothing, so a call whose answer is lost is sent again.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .documents import Document
from .transport import Transport

Tensor = dict[str, Any]
Label = str | int | float | bool


class Prediction(Document):
    """One answer of the simple form: a row of outputs for each instance.

    ``request_id`` names it in the inference log and in feedback; ``revision`` answered.
    """

    predictions: list[Any]
    request_id: str | None = None
    revision: int | None = None


class Predictions:
    """Calls of endpoints, each named by its URL, its path, or ``<project>.<deployment>``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def predict(self, endpoint: str, instances: list[Any]) -> Prediction:
        """Predict rows, given as lists in the order of the columns or as objects keyed by column."""
        path, body = f"{endpoint_path(endpoint)}/predict", {"instances": instances}
        answer = self._transport.request("POST", path, json=body, repeatable=True)
        named = {"request_id": "X-Request-ID", "revision": "X-Raymill-Revision"}
        told = {field: answer.headers.get(header) for field, header in named.items()}
        return Prediction.model_validate(answer.json() | told)

    def infer(self, endpoint: str, inputs: list[Tensor], **request: Any) -> dict[str, Any]:
        """Send one inference request of the Open Inference Protocol v2.

        Args:
            endpoint: The endpoint.
            inputs: Tensors ``{"name", "datatype", "shape", "data"}``.
            **request: Further members of the request, such as ``id``, ``outputs`` and ``parameters``.
        """
        path, body = f"{endpoint_path(endpoint)}/infer", {"inputs": inputs, **request}
        answer: dict[str, Any] = self._transport.document("POST", path, json=body, repeatable=True)
        return answer

    def give_feedback(
        self, endpoint: str, request_id: str, *, label: Label | None = None, value: float | None = None
    ) -> None:
        """Say what became of an answer; it is kept beside the inference log.

        Args:
            endpoint: The endpoint.
            request_id: Of the prediction.
            label: What the answer should have been.
            value: How good the answer was, or what it was worth.

        Raises:
            ValidationFailed: If neither a label nor a value is given.
        """
        body = {"request_id": request_id, "label": label, "value": value}
        self._transport.request("POST", f"{endpoint_path(endpoint)}/feedback", json=body)

    def metadata(self, endpoint: str) -> dict[str, Any]:
        """Return what an endpoint takes and gives, by the Open Inference Protocol v2."""
        metadata: dict[str, Any] = self._transport.document("GET", endpoint_path(endpoint))
        return metadata


def most_probable(predictions: Sequence[Sequence[float]], labels: Sequence[Label]) -> list[Label]:
    """Return for each row of probabilities the label that has the largest; the labels are in the model's signature."""
    return [labels[max(range(len(row)), key=row.__getitem__)] for row in predictions]


def endpoint_path(endpoint: str) -> str:
    """Return the path of an endpoint; of a URL only the path is used, so that no login leaves the platform."""
    if "/" not in endpoint:
        return f"/v2/models/{endpoint}"
    return urlsplit(endpoint).path.rstrip("/")
