"""What became of predictions: labels and values that clients send for a request id, kept beside the inference log.

Nothing is joined here: the request may have been answered by another server, a week ago.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Self

import orjson
from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from ...kernel.storage import ObjectStore
from ..edge.access import Caller
from ..errors import RequestRefused
from ..exchange import Response, json_response
from ..protocol.v2 import read_json
from ..published.directory import Endpoint
from .journal import Form, Journal, micros

FOLDER = "feedback"
BODY_BYTES = 16 * 2**10
_ROWS = 20_000
_BUFFER_BYTES = 16 * 2**20

Text = Annotated[StrictStr, Field(max_length=1000)]
Finite = Annotated[StrictFloat, AllowInfNan(False)]
Whole = Annotated[StrictInt, Field(ge=-(2**53), le=2**53)]


class Feedback(BaseModel):
    """Body of a feedback: for which request, and what was right or how good it was."""

    model_config = ConfigDict(extra="forbid")

    request_id: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    label: StrictBool | Whole | Finite | Text | None = Field(None, description="What the answer should have been")
    value: Whole | Finite | None = Field(None, description="How good the answer was, or what it was worth")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.label is None and self.value is None:
            raise ValueError("a label or a value is wanted")
        return self


class FeedbackRow(NamedTuple):
    """One feedback, as it is kept; label and value are JSON."""

    time: float
    project_id: str
    endpoint_id: str
    endpoint: str
    principal: str
    request_id: str
    label: bytes | None
    value: bytes | None


class FeedbackLog(Journal[FeedbackRow]):
    """The feedback that one model server received."""

    def __init__(self, store: ObjectStore, server_id: str) -> None:
        super().__init__(FORM, store, server_id, max_rows=_ROWS, max_bytes=_BUFFER_BYTES)

    def take(self, caller: Caller, endpoint: Endpoint, body: bytes) -> Response:
        """Keep one feedback.

        Raises:
            UnreadableBody: If the body is not JSON.
            RequestRefused: If it is not a feedback.
        """
        try:
            feedback = Feedback.model_validate(read_json(body))
        except ValidationError as error:
            raise RequestRefused(_words(error)) from error
        document = endpoint.document
        self.append(
            FeedbackRow(
                time.time(),
                document.project_id,
                document.endpoint_id,
                document.key,
                caller.id,
                feedback.request_id,
                None if feedback.label is None else orjson.dumps(feedback.label),
                None if feedback.value is None else orjson.dumps(feedback.value),
            )
        )
        return json_response({"request_id": feedback.request_id}, 202)


def _words(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"])) or "the body"
    return f'{place}: {first["msg"]}; send {{"request_id": …, "label": …, "value": …}}.'


def _columns(rows: Sequence[FeedbackRow]) -> Mapping[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = dict(zip(FeedbackRow._fields, zip(*rows, strict=True), strict=True))
    return {**columns, "time": [micros(moment) for moment in columns["time"]]}


def _size(row: FeedbackRow) -> int:
    return len(row.request_id) + len(row.label or b"")


FORM: Form[FeedbackRow] = Form(
    FOLDER,
    {
        "time": "timestamp",
        "request_id": "string",
        "endpoint_id": "string",
        "endpoint": "string",
        "principal": "string",
        "label": "string",
        "value": "string",
    },
    _columns,
    _size,
)
