"""Reads back what the model servers wrote down, newest first, from the Parquet files in the object store.

The files of several servers overlap in time. They are opened from the latest on, by the moments in their names, and a
row is given out when no file is left that could hold a later one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any, NamedTuple

from ..kernel.errors import ValidationFailed
from ..kernel.pagination import Page, from_cursor, to_cursor
from ..kernel.storage import BlobNotFound, ObjectStore
from ..serving.records.journal import span_of

# One answer opens no more files than this; what it has found then is the page.
MOST_FILES = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_LATEST = 2**62

Record = dict[str, Any]


class Place(NamedTuple):
    """Where a row stands in time: microseconds of the Unix time, and its request id."""

    moment: int
    request_id: str

    @classmethod
    def read(cls, cursor: str) -> "Place":
        """Read a cursor.

        Raises:
            ValidationFailed: If it is not one that a former page gave.
        """
        moment, _, request_id = from_cursor(cursor).partition(":")
        if not moment.isdecimal() or len(moment) > len(str(_LATEST)):
            raise ValidationFailed("The cursor is not one that this API gave.", details={"cursor": cursor})
        return cls(int(moment), request_id)

    @property
    def cursor(self) -> str:
        """The place as clients see it."""
        return to_cursor(f"{self.moment}:{self.request_id}")


@dataclass(frozen=True)
class Wanted:
    """Which rows of a project's journal are read.

    Attributes:
        endpoint_id: Whose rows.
        since: Of the first moment, inclusive; None: all.
        until: Of the last moment, inclusive; None: all.
        equal: By column: the only value.
        before: The last row of the page before.
    """

    endpoint_id: str
    since: datetime | None = None
    until: datetime | None = None
    equal: Mapping[str, Any] = field(default_factory=dict)
    before: Place | None = None

    @property
    def first(self) -> int:
        """Earliest moment that a row may have."""
        return 0 if self.since is None else _micros(self.since)

    @property
    def last(self) -> int:
        """Latest moment that a row may have."""
        until = _LATEST if self.until is None else _micros(self.until)
        return until if self.before is None else min(until, self.before.moment)

    def is_behind(self, moment: int) -> bool:
        """Tell whether a page that ends there has come further than the page before."""
        return self.before is None or moment < self.before.moment


class _File(NamedTuple):
    last: int
    uri: str


def read_page(store: ObjectStore, folder: str, wanted: Wanted, *, limit: int) -> Page[Record]:
    """Return rows of a project's folder, newest first; a page may be short of the limit and still have a next one.

    Raises:
        StoreUnavailable: If the object store does not answer.
    """
    found: list[Record] = []
    pending: list[Record] = []
    for opened, file in enumerate(_files(store, folder, wanted)):
        found += [row for row in pending if row["place"].moment > file.last]
        pending = pending[sum(row["place"].moment > file.last for row in pending) :]
        if len(found) > limit:
            break
        if opened >= MOST_FILES and wanted.is_behind(file.last + 1):
            return Page(items=found, next_cursor=Place(file.last + 1, "").cursor)
        pending = sorted([*pending, *_read(store, file.uri, wanted)], key=_place, reverse=True)
    else:
        found += pending
    kept = found[:limit]
    return Page(items=kept, next_cursor=_place(kept[-1]).cursor if len(found) > limit else None)


def _files(store: ObjectStore, folder: str, wanted: Wanted) -> Iterator[_File]:
    """Yield the files that may hold wanted rows, those with the latest rows first."""
    for day in reversed(store.list_folders(folder)):
        if not _overlaps(day, wanted):
            continue
        files = []
        for uri in store.list_documents(f"{folder}/{day}"):
            try:
                first, last = span_of(uri)
            except ValueError:
                continue  # not a journal's: what an operator put beside
            if first <= wanted.last and last >= wanted.first:
                files.append(_File(last, uri))
        yield from sorted(files, reverse=True)


def _overlaps(day: str, wanted: Wanted) -> bool:
    try:
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    except ValueError:
        return False
    return _micros(begin) <= wanted.last and _micros(begin + _DAY) > wanted.first


def _read(store: ObjectStore, uri: str, wanted: Wanted) -> Sequence[Record]:
    from pyarrow import compute, int64, parquet

    try:
        table = parquet.ParquetFile(BytesIO(store.get_document(uri))).read()
    except BlobNotFound:
        return []  # its time was up
    moments = table["time"].cast(int64())
    chosen = compute.and_(compute.greater_equal(moments, wanted.first), compute.less_equal(moments, wanted.last))
    for column, value in {**wanted.equal, "endpoint_id": wanted.endpoint_id}.items():
        chosen = compute.and_(chosen, compute.equal(table[column], value))
    rows = table.set_column(0, "time", moments).filter(chosen).to_pylist()
    placed = [row | {"place": Place(row["time"], row["request_id"]), "time": _moment(row["time"])} for row in rows]
    return [row for row in placed if wanted.before is None or row["place"] < wanted.before]


def _place(row: Record) -> Place:
    place: Place = row["place"]
    return place


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
