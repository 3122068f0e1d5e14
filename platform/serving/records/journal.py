"""Rows that a request leaves behind: buffered in memory, written as Parquet to the object store by a thread.

    <project id>/<folder>/<day>/<first>-<last>-<server>-<number>.parquet

First and last are the moments of a file's rows in microseconds of the Unix time, so that readers open what they need.
A request only appends. The buffer is written every few seconds, or when it is half full; when the store cannot keep up
the oldest rows are dropped and counted.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

import numpy as np
import structlog

from ...kernel.storage import ObjectStore
from ..errors import ServerStopping

log = structlog.get_logger(__name__)

_BATCH_ROWS = 500
_DAY_S = 86_400
_MICROSECONDS = 1_000_000
_DTYPES: dict[str, Any] = {"timestamp": np.int64, "int16": np.int16, "int32": np.int32, "double": np.float64}


class JournalRow(Protocol):
    """What every row has."""

    @property
    def time(self) -> float:
        """Seconds of the Unix time."""

    @property
    def project_id(self) -> str:
        """Whose it is."""


Row = TypeVar("Row", bound=JournalRow)


@dataclass(frozen=True, slots=True)
class Form(Generic[Row]):
    """How rows of one kind are kept.

    Attributes:
        folder: Below the project's own.
        types: By column: timestamp (microseconds, UTC), int16, int32, double or string.
        columns: Returns the values of each column; of a timestamp in microseconds.
        size: Returns the bytes that a row holds beside itself.
    """

    folder: str
    types: Mapping[str, str]
    columns: Callable[[Sequence[Row]], Mapping[str, Sequence[Any]]]
    size: Callable[[Row], int]


class Journal(Generic[Row]):
    """The buffer of one model server for one kind of row, and the way from it to the object store."""

    def __init__(self, form: Form[Row], store: ObjectStore, server_id: str, *, max_rows: int, max_bytes: int) -> None:
        self._form = form
        self._size = form.size
        self._store = store
        self._server_id = server_id
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._rows: deque[Row] = deque()
        self._bytes = 0
        self._half_full = asyncio.Event()
        self._writing = asyncio.Lock()
        self._reported = 0
        self._is_closed = False
        #: Rows that were lost because the store did not keep up.
        self.dropped = 0

    def append(self, row: Row) -> None:
        """Add a row, dropping the oldest when the buffer is full; never waits.

        Raises:
            ServerStopping: If the rows were written for the last time.
        """
        if self._is_closed:
            raise ServerStopping
        self._rows.append(row)
        self._bytes += self._size(row)
        if 2 * len(self._rows) > self._max_rows or 2 * self._bytes > self._max_bytes:
            self._half_full.set()
            self._drop()

    def __len__(self) -> int:
        """Return how many rows wait."""
        return len(self._rows)

    async def wait(self, seconds: float) -> None:
        """Wait until it is time to flush: the seconds are over, the buffer is half full, or somebody pressed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._half_full.wait()
        self._half_full.clear()

    def press(self) -> None:
        """End the wait."""
        self._half_full.set()

    async def flush(self) -> bool:
        """Write the buffered rows to the object store, in a thread; those that fail go back into the buffer.

        Returns:
            Whether the store took them, and those that another call was writing.
        """
        async with self._writing:
            return await self._flush()

    def flush_at_exit(self) -> None:
        """Take no further row, and write the buffered ones while the interpreter ends.

        The event loop, in a thread of its own, may go on to answer until the very end.
        """
        self._is_closed = True
        while self._rows:
            rows, self._rows = self._rows, deque()
            if failed := self._write(list(rows)):
                log.error("rows_lost", journal=self._form.folder, rows=len(failed))

    def _drop(self) -> None:
        while self._rows and (len(self._rows) > self._max_rows or self._bytes > self._max_bytes):
            self._bytes -= self._size(self._rows.popleft())
            self.dropped += 1

    async def _flush(self) -> bool:
        if self.dropped > self._reported:
            log.warning("rows_dropped", journal=self._form.folder, rows=self.dropped - self._reported)
            self._reported = self.dropped
        if not self._rows:
            return True
        rows, self._rows, self._bytes = self._rows, deque(), 0
        failed = await asyncio.to_thread(self._write, list(rows))
        if failed:
            self._put_back(failed)
        return not failed

    def _put_back(self, rows: list[Row]) -> None:
        self._rows = deque([*rows, *self._rows])
        self._bytes = sum(map(self._size, self._rows))
        self._drop()

    def _write(self, rows: list[Row]) -> list[Row]:
        """Write one file per project and day; return the rows that the store did not take, in their order."""
        files: defaultdict[tuple[str, int], list[Row]] = defaultdict(list)
        for row in rows:
            files[row.project_id, int(row.time // _DAY_S)].append(row)
        failed: list[Row] = []
        for (project_id, number), own in files.items():
            day = f"{datetime.fromtimestamp(number * _DAY_S, UTC):%Y-%m-%d}"
            try:
                name = file_name([micros(row.time) for row in own], self._server_id)
                self._store.put_document(f"{project_id}/{self._form.folder}/{day}/{name}", to_parquet(self._form, own))
            except Exception:
                log.warning("rows_not_written", journal=self._form.folder, rows=len(own), exc_info=True)
                failed += own
        return sorted(failed, key=lambda row: row.time)


def micros(seconds: float) -> int:
    """Return a moment as the journals write it."""
    return int(seconds * _MICROSECONDS)


def file_name(moments: Sequence[int], server_id: str) -> str:
    """Name a file after the first and the last of its rows."""
    return f"{min(moments)}-{max(moments)}-{server_id}-{uuid4().hex[:8]}.parquet"


def span_of(uri: str) -> tuple[int, int]:
    """Return the moments of a file's first and last row.

    Raises:
        ValueError: If the name does not tell them.
    """
    first, last, _ = uri.rpartition("/")[2].split("-", 2)
    return int(first), int(last)


def to_parquet(form: Form[Row], rows: Sequence[Row]) -> bytes:
    """Write rows as one Parquet file.

    Written in small batches with a breath between them, because the thread that does this holds the interpreter's lock
    against the event loop; and without `pyarrow.array`, whose first call imports pandas (0.6 s, 70 MB).
    """
    from pyarrow import parquet

    schema, sink = _schema(form.types), BytesIO()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for start in range(0, len(rows), _BATCH_ROWS):
            batch = _batch(form, rows[start : start + _BATCH_ROWS], schema)
            writer.write_batch(batch, row_group_size=_BATCH_ROWS)
            time.sleep(0)
    return sink.getvalue()


def _schema(types: Mapping[str, str]) -> Any:
    import pyarrow as pa

    made = {"timestamp": pa.timestamp("us", tz="UTC"), "double": pa.float64(), "string": pa.string()}
    made |= {"int16": pa.int16(), "int32": pa.int32()}
    return pa.schema([(name, made[kind]) for name, kind in types.items()])


def _batch(form: Form[Row], rows: Sequence[Row], schema: Any) -> Any:
    import pyarrow as pa

    values = form.columns(rows)
    arrays = [
        _strings(values[field.name]) if kind == "string" else _numbers(values[field.name], field.type, _DTYPES[kind])
        for field, kind in zip(schema, form.types.values(), strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _numbers(values: Sequence[float], kind: Any, dtype: Any) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.array(values, dtype))])


def _strings(values: Sequence[str | bytes | None]) -> Any:
    import pyarrow as pa

    builder = pa.lib.StringBuilder()
    builder.append_values(values)
    return builder.finish()
