"""From an uploaded file to Parquet, in bounded memory.

CSV is read block by block with the types that the first block shows. Where a later block contradicts one, the file is
read once more with every column's type taken from a full pass, so that a file is stored whole or refused whole.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from .errors import EmptyTable, UnknownTableFormat, UnreadableTable
from .statistics import TableSummary

_BLOCK_BYTES = 8 << 20
_BATCH_ROWS = 65_536


def write_parquet(source: Path, *, filename: str, target: Path) -> TableSummary:
    """Convert an uploaded CSV or Parquet file to Parquet and summarise it on the way.

    Raises:
        UnknownTableFormat: If the name ends in neither ``.csv`` nor ``.parquet``.
        UnreadableTable: If the file is broken; the message carries the reader's reason.
        EmptyTable: If there are no rows.
    """
    suffix = Path(filename).suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise UnknownTableFormat(f"{filename!r} is no table: upload a .csv or a .parquet file.")
    try:
        if suffix == ".parquet":
            return _write(_parquet_batches(source), target)
        _check_header(source)
        return _write_csv(source, target)
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise UnreadableTable(f"{filename!r} cannot be read: {error}", details={"filename": filename}) from error


def _write_csv(source: Path, target: Path) -> TableSummary:
    try:
        return _write(_csv_batches(source, {}), target)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
        return _write(_csv_batches(source, _widest_types(source)), target)


def _write(batches: Iterator[pa.RecordBatch], target: Path) -> TableSummary:
    first = next(batches, None)
    if first is None:
        raise EmptyTable("The file has no rows.")
    summary = TableSummary(first.schema)
    with pq.ParquetWriter(target, first.schema, compression="zstd") as writer:
        for batch in _chain(first, batches):
            writer.write_batch(batch)
            summary.add(batch)
    if summary.row_count == 0:
        raise EmptyTable("The file has no rows.")
    return summary


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _parquet_batches(source: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(source) as file:
        yield from file.iter_batches(batch_size=_BATCH_ROWS)


def _csv_batches(source: Path, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    with csv.open_csv(
        source,
        read_options=csv.ReadOptions(block_size=_BLOCK_BYTES),
        convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True),
    ) as reader:
        yield from reader


def _check_header(source: Path) -> None:
    with source.open("rb") as file:
        first_line = file.readline(_BLOCK_BYTES)
    names = csv.read_csv(pa.py_buffer(first_line)).column_names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UnreadableTable(f"The column name {repeated[0]!r} appears twice.", details={"columns": repeated})


def _widest_types(source: Path) -> dict[str, pa.DataType]:
    """Find for each column the narrowest of integer, float and text that holds for the whole file."""
    as_text = {name: pa.string() for name in csv.open_csv(source).schema.names}
    widest: dict[str, pa.DataType] = {}
    for batch in _csv_batches(source, as_text):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            widest[name] = _widen(column, widest.get(name, pa.int64()))
    return widest


def _widen(column: pa.Array, known: pa.DataType) -> pa.DataType:
    for candidate in (pa.int64(), pa.float64()):
        if known == pa.string() or (known == pa.float64() and candidate == pa.int64()):
            continue
        try:
            column.cast(candidate)
        except pa.ArrowInvalid:
            continue
        return candidate
    return pa.string()
