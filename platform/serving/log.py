"""The inference log: one row per request, in Parquet files in the object store.

A request only appends to a bounded buffer. A thread writes the buffer away every few seconds, one file per project;
when the store cannot keep up the oldest rows are dropped and counted. Payloads are kept as they were sent and answered.
"""

import asyncio
from collections import defaultdict, deque
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, NamedTuple
from uuid import uuid4
from zlib import crc32

import structlog

from ..kernel.storage import ObjectStore
from .table import LogPolicy

log = structlog.get_logger(__name__)

#: A payload larger than this is left out of its row.
PAYLOAD_BYTES = 64 * 2**10
#: Payloads that may wait in memory, over all rows.
BUFFER_BYTES = 64 * 2**20
_SAMPLES = 1 << 32


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


class InferenceLog:
    """The buffer of one model server and the way from it to the object store."""

    def __init__(
        self, store: ObjectStore, server_id: str, *, max_rows: int, max_payload_bytes: int = BUFFER_BYTES
    ) -> None:
        self._store = store
        self._server_id = server_id
        self._max_rows = max_rows
        self._max_payload_bytes = max_payload_bytes
        self._rows: deque[Row] = deque()
        self._payload_bytes = 0
        #: Rows that were lost because the store did not keep up.
        self.dropped = 0

    def append(self, row: Row) -> None:
        """Add a row, dropping the oldest when the buffer is full; never waits."""
        self._rows.append(row)
        if row.inputs is not None or row.outputs is not None:
            self._payload_bytes += _payload_bytes(row)
        if len(self._rows) > self._max_rows or self._payload_bytes > self._max_payload_bytes:
            self._drop()

    def _drop(self) -> None:
        while self._rows and (len(self._rows) > self._max_rows or self._payload_bytes > self._max_payload_bytes):
            self._payload_bytes -= _payload_bytes(self._rows.popleft())
            self.dropped += 1

    async def flush(self) -> None:
        """Write the buffered rows to the object store, in a thread; on failure they go back into the buffer."""
        if not self._rows:
            return
        rows, self._rows, self._payload_bytes = self._rows, deque(), 0
        try:
            await asyncio.to_thread(self._write, list(rows))
        except Exception:
            log.warning("inference_log_not_written", rows=len(rows), dropped=self.dropped, exc_info=True)
            self._put_back(rows)

    def _put_back(self, rows: deque[Row]) -> None:
        rows.extend(self._rows)
        self._rows = rows
        self._payload_bytes = sum(_payload_bytes(row) for row in rows)
        self._drop()

    def _write(self, rows: list[Row]) -> None:
        by_project: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_project[row.project_id].append(row)
        for project_id, own in by_project.items():
            moment = datetime.fromtimestamp(own[0].time, UTC)
            name = f"{moment:%H%M%S}-{self._server_id}-{uuid4().hex[:8]}.parquet"
            self._store.put_document(f"{project_id}/inference-log/{moment:%Y-%m-%d}/{name}", to_parquet(own))


def to_parquet(rows: list[Row]) -> bytes:
    """Write rows as one Parquet file; times are UTC, latencies milliseconds, payloads JSON text."""
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, Any] = {
        "time": pa.array([int(row.time * 1e6) for row in rows], pa.timestamp("us", tz="UTC")),
        "request_id": pa.array([row.request_id.decode("latin-1") for row in rows], pa.string()),
        "endpoint_id": pa.array([row.endpoint_id for row in rows], pa.string()),
        "endpoint": pa.array([row.endpoint for row in rows], pa.string()),
        "revision": pa.array([row.revision for row in rows], pa.int64()),
        "principal": pa.array([row.principal for row in rows], pa.string()),
        "latency_ms": pa.array([row.latency_s * 1000 for row in rows], pa.float64()),
        "status": pa.array([row.status for row in rows], pa.int16()),
        "error": pa.array([row.error for row in rows], pa.string()),
        "inputs": pa.array([_text(row.inputs) for row in rows], pa.string()),
        "outputs": pa.array([_text(row.outputs) for row in rows], pa.string()),
    }
    sink = BytesIO()
    parquet.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def is_sampled(policy: LogPolicy, request_id: bytes) -> bool:
    """Decide by the request id whether this request's payloads are kept; the same id always gets the same answer."""
    return policy.payloads and crc32(request_id) < policy.sample_rate * _SAMPLES


def payload(content: bytes) -> bytes | None:
    """Return what of a payload goes into its row."""
    return content if len(content) <= PAYLOAD_BYTES else None


def _payload_bytes(row: Row) -> int:
    return len(row.inputs or b"") + len(row.outputs or b"")


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "replace")
