"""What a deployment answered, and what became of it."""

from datetime import datetime

from .documents import Document
from .transport import Query


class InferenceRecord(Document):
    """One request; ``inputs`` and ``outputs`` are there where the deployment keeps payloads, redacted as it says."""

    time: datetime
    request_id: str
    revision: int
    principal: str
    latency_ms: float
    status: int
    error: str | None
    inputs: str | None
    outputs: str | None


class FeedbackRecord(Document):
    """What a client said of one answer."""

    time: datetime
    request_id: str
    principal: str
    label: bool | int | float | str | None
    value: int | float | None


def asked(since: datetime | None, until: datetime | None, **more: str | int | None) -> Query:
    """Return the query for rows of a range of time."""
    moments = {"since": since, "until": until}
    return {**{name: moment.isoformat() if moment else None for name, moment in moments.items()}, **more}
