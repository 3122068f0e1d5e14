"""From an uploaded CSV, TSV or Parquet file to the Parquet file that is kept, in bounded memory.

The types of a CSV are read from its first block. Where a later block contradicts them the whole file is looked at, each
column gets the narrowest type that holds for all of it, and the file is written once more.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from .csv_dialect import Dialect, read_dialect
from .errors import BadTable, UnknownTableFormat, UnreadableTable
from .statistics import TableProfile

# Arrow reads about 32 blocks ahead of what it has converted: this bounds an upload's memory, and its longest row.
_BLOCK_BYTES = 2 << 20
_ROW_GROUP_BYTES = 8 << 20
_BATCH_CELLS = 1 << 20
_MAX_COLUMNS = 10_000
_MAX_REASON = 300
_WIDER_TYPES = (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("ns"), pa.string())
_ROW = re.compile(r"Row #(\d+)")
_COLUMN = re.compile(r"In CSV column #(\d+)")


@dataclass(frozen=True)
class CsvText:
    """A CSV file on disk and how its fields are divided."""

    path: Path
    dialect: Dialect

    def read(self, types: dict[str, pa.DataType]) -> pyarrow.csv.CSVStreamingReader:
        """Open the file; columns that are not in ``types`` get the type that the first block shows."""
        return pyarrow.csv.open_csv(
            self.path,
            # One thread: Arrow then names the row in its errors.
            read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self.dialect.delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, strings_can_be_null=True, decimal_point=self.dialect.decimal_point
            ),
        )


def to_parquet(source: Path, *, filename: str, target: Path) -> TableProfile:
    """Write the table in ``source`` to ``target`` as Parquet and describe it.

    Args:
        source: The uploaded file.
        filename: The name that its user gave it; the ending says what it is.
        target: Where to write; what lies there after an error is of no use.

    Raises:
        UnknownTableFormat: If the name ends in none of .csv, .tsv, .parquet.
        UnreadableTable: If the file is not what its name says; names the row where there is one.
        BadTable: If the table has no rows, or a column that cannot be kept; names the column.
    """
    suffix = Path(filename).suffix.lower()
    try:
        if suffix == ".parquet":
            return _write_parquet(source, target)
        if suffix == ".tsv":
            return _write_csv(CsvText(source, Dialect("\t")), target)
        if suffix == ".csv":
            return _write_csv(CsvText(source, read_dialect(source)), target)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(error) from error
    except OSError as error:
        # Arrow says OSError without a number for damaged Parquet; a number means the machine's own trouble.
        if error.errno is not None:
            raise
        raise _unreadable(error) from error
    raise UnknownTableFormat(f"{filename[:100]!r} is not a table that can be read: send .csv, .tsv or .parquet.")


def _write_parquet(source: Path, target: Path) -> TableProfile:
    # A buffer size makes Arrow read column chunks piece by piece instead of whole.
    with pq.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False) as file:
        schema = file.schema_arrow.remove_metadata()
        rows = max(1, _BATCH_CELLS // max(1, len(schema)))
        return _write(schema, file.iter_batches(batch_size=rows, use_threads=False), target)


def _write_csv(text: CsvText, target: Path) -> TableProfile:
    with text.read({}) as reader:
        first_types = dict(zip(_checked(reader.schema).names, reader.schema.types, strict=True))
        try:
            return _write(_without_nulls(reader.schema), reader, target)
        except pa.ArrowInvalid as error:
            if not _COLUMN.search(str(error)):
                raise
    with text.read(_types_of_all(text, first_types)) as reader:
        try:
            return _write(reader.schema, reader, target)
        except pa.ArrowInvalid as error:
            raise _bad_column(error, reader.schema) from error


def _write(schema: pa.Schema, batches: Iterable[pa.RecordBatch], target: Path) -> TableProfile:
    profile = TableProfile(_checked(schema))
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for group in _grouped(batches):
            kept = group.cast(schema) if group.schema.types != schema.types else group
            writer.write_batch(kept.replace_schema_metadata(None))
            profile.add(kept)
    if profile.row_count == 0:
        raise BadTable("The table has no rows.")
    return profile


def _grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches: each becomes a row group of the file, and small ones are slow to read."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.nbytes for one in held) >= _ROW_GROUP_BYTES:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)


def _types_of_all(text: CsvText, first_types: dict[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Find, per column, the first type that every value of the file can be read as."""
    left = {name: [type_, *_WIDER_TYPES] for name, type_ in first_types.items()}
    with text.read(dict.fromkeys(first_types, pa.string())) as reader:
        for batch in _named(reader, text):
            for name, values in zip(batch.schema.names, batch.columns, strict=True):
                while not _reads_as(values, left[name][0], text.dialect.decimal_point):
                    left[name].pop(0)
    return {name: pa.string() if pa.types.is_null(types[0]) else types[0] for name, types in left.items()}


def _named(reader: pyarrow.csv.CSVStreamingReader, text: CsvText) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except pa.ArrowInvalid as error:
        raise _bad_column(error, reader.schema) from error


def _reads_as(values: pa.Array, type_: pa.DataType, decimal_point: str) -> bool:
    if pa.types.is_string(type_):
        return True
    if pa.types.is_null(type_):
        return bool(values.null_count == len(values))
    if pa.types.is_floating(type_) and decimal_point != ".":
        # A point is no part of such a number, and the reader will not take it for one.
        values = pc.replace_substring(pc.replace_substring(values, ".", "?"), decimal_point, ".")
    try:
        values.cast(type_)
    except pa.ArrowInvalid:
        return False
    return True


def _without_nulls(schema: pa.Schema) -> pa.Schema:
    """Keep a column that is empty in every row as text: Parquet readers stumble over the type null."""
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields)


def _checked(schema: pa.Schema) -> pa.Schema:
    seen: set[str] = set()
    if len(schema) > _MAX_COLUMNS:
        raise BadTable(f"The table has {len(schema)} columns; at most {_MAX_COLUMNS} can be kept.")
    for number, field in enumerate(schema, start=1):
        if not field.name.strip() or "\0" in field.name:
            raise BadTable(f"Column {number} has no usable name; give every column one.", details={"column": number})
        if field.name in seen:
            raise BadTable(f"Two columns are named {field.name!r}.", details={"column": field.name})
        if pa.types.is_binary(field.type):
            raise BadTable(
                f"Column {field.name!r} holds bytes that are no UTF-8 text; save the file as UTF-8.",
                details={"column": field.name},
            )
        seen.add(field.name)
    return schema


def _bad_column(error: pa.ArrowInvalid, schema: pa.Schema) -> Exception:
    found = _COLUMN.search(str(error))
    if found is None:
        return _unreadable(error)
    name = schema.names[int(found[1])]
    reason = str(error).rpartition(": ")[2] or str(error)
    return BadTable(f"Column {name!r} cannot be read: {reason[:_MAX_REASON]}.", details={"column": name})


def _unreadable(error: Exception) -> UnreadableTable:
    if isinstance(error, UnicodeDecodeError):
        return UnreadableTable("The file cannot be read: its column names are no UTF-8 text; save the file as UTF-8.")
    reason = str(error).partition("\n")[0][:_MAX_REASON]
    row = _ROW.search(reason)
    return UnreadableTable(f"The file cannot be read: {reason}", details={"row": int(row[1])} if row else {})
