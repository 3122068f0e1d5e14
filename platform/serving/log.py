"""The inference log: one row per request, in Parquet files in the object store.

A request only appends to a bounded buffer. A thread writes the buffer away every few seconds, or when it is half full,
one file per project; when the store cannot keep up the oldest rows are dropped and counted. Payloads are kept as they
were sent and answered.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, NamedTuple
from uuid import uuid4
from zlib import crc32

import numpy as np
import structlog

from ..kernel.storage import ObjectStore
from .table import LogPolicy

log = structlog.get_logger(__name__)

#: A payload larger than this is left out of its row.
PAYLOAD_BYTES = 64 * 2**10
#: Payloads that may wait in memory, over all rows.
BUFFER_BYTES = 64 * 2**20
_SAMPLES = 1 << 32
_BATCH_ROWS = 500
_NUMBERS = frozenset({"time", "revision", "latency_ms", "status"})


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
        self._half_full = asyncio.Event()
        self._writing = asyncio.Lock()
        self._reported = 0
        #: Rows that were lost because the store did not keep up.
        self.dropped = 0

    def append(self, row: Row) -> None:
        """Add a row, dropping the oldest when the buffer is full; never waits."""
        self._rows.append(row)
        if row.inputs is not None or row.outputs is not None:
            self._payload_bytes += _payload_bytes(row)
        if 2 * len(self._rows) > self._max_rows or 2 * self._payload_bytes > self._max_payload_bytes:
            self._half_full.set()
            self._drop()

    async def wait(self, seconds: float) -> None:
        """Wait until it is time to flush: the seconds are over, the buffer is half full, or somebody pressed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._half_full.wait()
        self._half_full.clear()

    def press(self) -> None:
        """End the wait."""
        self._half_full.set()

    def _drop(self) -> None:
        while self._rows and (len(self._rows) > self._max_rows or self._payload_bytes > self._max_payload_bytes):
            self._payload_bytes -= _payload_bytes(self._rows.popleft())
            self.dropped += 1

    async def flush(self) -> bool:
        """Write the buffered rows to the object store, in a thread; on failure they go back into the buffer.

        Returns:
            Whether the store took them, and those that another call was writing.
        """
        async with self._writing:
            return await self._flush()

    async def _flush(self) -> bool:
        if self.dropped > self._reported:
            log.warning("inference_log_rows_dropped", rows=self.dropped - self._reported)
            self._reported = self.dropped
        if not self._rows:
            return True
        rows, self._rows, self._payload_bytes = self._rows, deque(), 0
        try:
            await asyncio.to_thread(self._write, list(rows))
        except Exception:
            log.warning("inference_log_not_written", rows=len(rows), dropped=self.dropped, exc_info=True)
            self._put_back(rows)
            return False
        return True

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


def to_parquet(rows: Sequence[Row]) -> bytes:
    """Write rows as one Parquet file; times are UTC, latencies milliseconds, payloads JSON text.

    Written in small batches with a breath between them, because the thread that does this holds the interpreter's lock
    against the event loop; and without `pyarrow.array`, whose first call imports pandas (0.6 s, 70 MB).
    """
    from pyarrow import parquet

    schema = _schema()
    sink = BytesIO()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for start in range(0, len(rows), _BATCH_ROWS):
            writer.write_batch(_batch(rows[start : start + _BATCH_ROWS], schema), row_group_size=_BATCH_ROWS)
            time.sleep(0)
    return sink.getvalue()


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            ("request_id", pa.string()),
            ("endpoint_id", pa.string()),
            ("endpoint", pa.string()),
            ("revision", pa.int32()),
            ("principal", pa.string()),
            ("latency_ms", pa.float64()),
            ("status", pa.int16()),
            ("error", pa.string()),
            ("inputs", pa.string()),
            ("outputs", pa.string()),
        ]
    )


def _batch(rows: Sequence[Row], schema: Any) -> Any:
    import pyarrow as pa

    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    values: dict[str, Any] = {
        **columns,
        "time": (np.array(columns["time"]) * 1e6).astype(np.int64),
        "revision": np.array(columns["revision"], np.int32),
        "latency_ms": np.array(columns["latency_s"]) * 1000,
        "status": np.array(columns["status"], np.int16),
        "inputs": [_text(content) for content in columns["inputs"]],
        "outputs": [_text(content) for content in columns["outputs"]],
    }
    arrays = [_numbers(values[f.name], f.type) if f.name in _NUMBERS else _strings(values[f.name]) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _numbers(values: Any, kind: Any) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _strings(values: Sequence[str | bytes | None]) -> Any:
    import pyarrow as pa

    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()


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
