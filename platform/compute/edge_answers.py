"""What the edge answers in an app's place, in the one error shape."""

import json
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from ..kernel.errors import ErrorType, error_body

_NAMED = {
    401: ErrorType.AUTHENTICATION_ERROR,
    403: ErrorType.AUTHORIZATION_ERROR,
    404: ErrorType.RESOURCE_NOT_FOUND,
    408: ErrorType.EXTERNAL_SERVICE_ERROR,
    409: ErrorType.RESOURCE_CONFLICT,
    429: ErrorType.RATE_LIMIT_EXCEEDED,
    502: ErrorType.EXTERNAL_SERVICE_ERROR,
    503: ErrorType.EXTERNAL_SERVICE_ERROR,
    504: ErrorType.EXTERNAL_SERVICE_ERROR,
}
_MESSAGES = {
    404: "Nothing is served at this path; the API is documented at /api/docs.",
    405: "The method is not one that this path answers; see /api/docs.",
    408: "The request was not answered in time; try again later.",
    413: "The body is larger than the limit of {limit} bytes for this path; send less.",
    429: "Too many requests are waiting; try again later.",
    500: "The platform failed to handle the request; its logs have the details under this request_id.",
    503: "No replica is free to answer; try again.",
}
_KEPT = frozenset({b"retry-after", b"allow", b"www-authenticate"})


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    extra: tuple[tuple[bytes, bytes], ...] = ()

    def headers(self, request_id: str, *, close: bool = False) -> list[tuple[bytes, bytes]]:
        """Return the headers, telling the other side whether the connection ends with this answer."""
        closing = [(b"connection", b"close")] if close else []
        return [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self.body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-request-id", request_id.encode()),
            *closing,
            *self.extra,
        ]


def answer(
    status: int, path: str, request_id: str, original: MutableMapping[str, Any] | None = None, *, limit: int = 0
) -> Answer:
    """Build the answer for a status, keeping what matters of the headers that it replaces."""
    fallback = "The request was refused; correct it." if status < 500 else _MESSAGES[500]
    message = _MESSAGES.get(status, fallback).format(limit=limit)
    body = error_body(_type(status), message, request_id=request_id)
    if path.startswith("/v2/"):
        body["error"] = message
    extra = [(name, value) for name, value in (original or {}).get("headers", ()) if name.lower() in _KEPT]
    if status in (429, 503) and not any(name.lower() == b"retry-after" for name, _ in extra):
        extra.append((b"retry-after", b"1"))
    return Answer(status, json.dumps(body).encode(), tuple((bytes(name), bytes(value)) for name, value in extra))


def replaces_serve_text(start: MutableMapping[str, Any], path: str) -> bool:
    """Say whether an answer is one of Ray Serve's own plain-text errors (the apps answer theirs as JSON)."""
    if start["status"] < 400 or path == "/-/healthz":
        return False
    return any(name == b"content-type" and value.startswith(b"text/plain") for name, value in start["headers"])


def _type(status: int) -> ErrorType:
    default = ErrorType.VALIDATION_ERROR if status < 500 else ErrorType.INTERNAL_SERVER_ERROR
    return _NAMED.get(status, default)


__all__ = ["Answer", "answer", "replaces_serve_text"]
