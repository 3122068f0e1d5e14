"""The inference log: one row per request, in Parquet files in the object store.

Payloads are kept as they were sent and answered, of a share of the requests that the request id decides; what an
endpoint wants redacted is taken out by the thread that writes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from ...kernel.storage import ObjectStore
from ..published.table import LogPolicy
from .journal import Form, Journal, micros
from .redaction import Redaction

#: A payload larger than this is left out of its row.
PAYLOAD_BYTES = 64 * 2**10
#: Payloads that may wait in memory, over all rows.
BUFFER_BYTES = 64 * 2**20
FOLDER = "inference-log"
_SAMPLES = 1 << 32
_ANSWERED = 200


class Row(NamedTuple):
    """One request, as it is logged."""

    time: float
    request_id: bytes
    project_id: str
    endpoint_id: str
    endpoint: str
    revision: int
    principal: str
    latency_s: float
    status: int
    error: str | None
    inputs: bytes | None
    outputs: bytes | None
    #: What is taken out of the inputs and of the outputs.
    redactions: tuple[Redaction, Redaction] | None = None


class InferenceLog(Journal[Row]):
    """The inference log of one model server."""

    def __init__(
        self, store: ObjectStore, server_id: str, *, max_rows: int, max_payload_bytes: int = BUFFER_BYTES
    ) -> None:
        super().__init__(FORM, store, server_id, max_rows=max_rows, max_bytes=max_payload_bytes)


def is_sampled(policy: LogPolicy, request_id: bytes) -> bool:
    """Decide by the request id whether this request's payloads are kept; the same id always gets the same answer."""
    return policy.payloads and crc32(request_id) < policy.sample_rate * _SAMPLES


def payload(content: bytes) -> bytes | None:
    """Return what of a payload goes into its row."""
    return content if len(content) <= PAYLOAD_BYTES else None


def _columns(rows: Sequence[Row]) -> Mapping[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    payloads = [_payloads(row) for row in rows]
    return {
        **columns,
        "time": [micros(moment) for moment in columns["time"]],
        "latency_ms": [seconds * 1000 for seconds in columns["latency_s"]],
        "inputs": [_text(inputs) for inputs, _ in payloads],
        "outputs": [_text(outputs) for _, outputs in payloads],
    }


def _payloads(row: Row) -> tuple[bytes | None, bytes | None]:
    """Return what is kept of a row's payloads: where something is redacted, nothing that was never understood."""
    if row.redactions is None or row.inputs is row.outputs is None:
        return row.inputs, row.outputs
    if row.status != _ANSWERED:
        return None, None
    kept = zip(row.redactions, (row.inputs, row.outputs), strict=True)
    inputs, outputs = (None if content is None else redaction.clear(content) for redaction, content in kept)
    return inputs, outputs


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "replace")


def _payload_bytes(row: Row) -> int:
    return len(row.inputs or b"") + len(row.outputs or b"")


FORM: Form[Row] = Form(
    FOLDER,
    {
        "time": "timestamp",
        "request_id": "string",
        "endpoint_id": "string",
        "endpoint": "string",
        "revision": "int32",
        "principal": "string",
        "latency_ms": "double",
        "status": "int16",
        "error": "string",
        "inputs": "string",
        "outputs": "string",
    },
    _columns,
    _payload_bytes,
)
