"""HAProxy's own answers, in the platform's one error shape.

HAProxy 2.8 renders an ``lf-string`` per request, so that the id and the time in an error are real ones. The strings
below are configuration text: single-quoted, with the log-format expressions in ``%[…]``.
"""

from dataclasses import dataclass

#: The variable that the frontend sets to the id of the request.
REQUEST_ID = "%[var(txn.raymill_id)]"
#: Empty, or the member ``error`` that clients of the Open Inference Protocol read (set for paths under ``/v2``).
PROTOCOL_MEMBER = "%[var(txn.raymill_v2)]"
#: A request that never became one has no variables; it gets an id of its own.
FRESH_ID = "%[uuid]"
TIMESTAMP = "%[date,utime(%Y-%m-%dT%H:%M:%SZ)]"


@dataclass(frozen=True)
class Answer:
    """One error that HAProxy gives without asking a replica."""

    status: int
    type: str
    message: str
    retry_after_s: int | None = None
    request_id: str = REQUEST_ID

    def directive(self) -> str:
        """Return the tail of an ``http-error`` or ``http-request return`` line."""
        headers = f" hdr X-Request-ID {self.request_id} hdr Cache-Control no-store"
        if self.retry_after_s is not None:
            headers += f" hdr Retry-After {self.retry_after_s}"
        return f"status {self.status} content-type application/json lf-string '{self._body()}'{headers}"

    def _body(self) -> str:
        member = PROTOCOL_MEMBER if self.request_id == REQUEST_ID else ""
        return (
            f'{{"type":"{self.type}","message":"{self.message}","details":{{}},'
            f'"request_id":"{self.request_id}","timestamp":"{TIMESTAMP}"{member}}}'
        )


UNREADABLE = Answer(
    400,
    "VALIDATION_ERROR",
    "The request is not readable as HTTP/1.1, or its URL and headers take more than 15 kB; correct it.",
    None,
    FRESH_ID,
)
LATE = Answer(408, "VALIDATION_ERROR", "The request did not arrive in time; send it again.", None, FRESH_ID)
NOT_FOUND = Answer(404, "RESOURCE_NOT_FOUND", "Nothing is served at this path; the API is documented at /api/docs.")
UNAVAILABLE = Answer(503, "EXTERNAL_SERVICE_ERROR", "No replica is ready to answer; try again.", 2)

ANSWERS = (
    UNREADABLE,
    LATE,
    Answer(403, "AUTHORIZATION_ERROR", "The proxy refuses this request."),
    Answer(413, "VALIDATION_ERROR", "The request is larger than the proxy accepts; send less."),
    Answer(429, "RATE_LIMIT_EXCEEDED", "Too many requests; try again later.", 1),
    Answer(500, "INTERNAL_SERVER_ERROR", "The proxy failed to handle the request; try again."),
    Answer(502, "EXTERNAL_SERVICE_ERROR", "The connection to the replica was lost; check the result, then try again."),
    UNAVAILABLE,
    Answer(504, "EXTERNAL_SERVICE_ERROR", "The replica did not answer in time; try again later."),
)

__all__ = ["ANSWERS", "NOT_FOUND", "UNAVAILABLE", "Answer"]
