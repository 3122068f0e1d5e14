"""API keys packed for the request path: a million of them in some 75 MB, each an object only while it is looked at.

The keys of one project lie in columns that are made anew with each of its documents. An index over all projects leads
from a digest to its row: buckets of 10 bytes per key, searched with ``bytearray.find``, so that no growth ever copies
the whole.
"""

from array import array
from collections.abc import Iterator, Mapping
from math import inf
from struct import Struct
from typing import NamedTuple

from ...kernel.ids import pack_id, unpack_id

_DIGEST, _ID, _PREFIX = 32, 16, "key"
#: In a bucket: the digest's third and fourth byte, the number of the project's columns, the row in them.
_ENTRY, _PLACE = Struct("=2sII"), Struct("=II")
_BUCKETS_LOG2 = 13
_MOST_RECENT = 4096


class KnownKey(NamedTuple):
    """An API key that some project grants."""

    id: str
    project_id: str
    may_invoke: bool
    expires_at: float | None
    #: The only endpoint that the key may call; None means all of the project.
    endpoint: str | None


class KeyTable(Mapping[bytes, KnownKey]):
    """The keys of all projects by SHA-256."""

    __slots__ = ("_buckets", "_columns", "_free", "_numbers", "_recent")

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(1 << _BUCKETS_LOG2)]
        self._columns: dict[int, _Columns] = {}
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        self._recent: dict[bytes, KnownKey] = {}

    def put(self, project_id: str, keys: Mapping[bytes, KnownKey]) -> None:
        """Put a project's keys, by their digests of 32 bytes, in the place of those held before."""
        self._recent.clear()
        before = self._numbers.get(project_id)
        number = self._free.pop() if self._free else len(self._columns)
        self._columns[number] = _Columns(project_id, keys)
        self._numbers[project_id] = number
        for row, digest in enumerate(keys):
            self._bucket(digest).extend(_ENTRY.pack(digest[2:4], number, row))
        if before is not None:
            self._remove(before)

    def drop(self, project_id: str) -> None:
        """Forget a project's keys."""
        self._recent.clear()
        number = self._numbers.pop(project_id, None)
        if number is not None:
            self._remove(number)

    def __getitem__(self, digest: bytes) -> KnownKey:
        key = self._recent.get(digest)
        if key is None:
            key = self._look_up(digest)
            if len(self._recent) >= _MOST_RECENT:
                self._recent.clear()
            self._recent[digest] = key
        return key

    def _look_up(self, digest: bytes) -> KnownKey:
        bucket, mark = self._bucket(digest), digest[2:4]
        at = _find(bucket, mark)
        while at >= 0:
            number, row = _PLACE.unpack_from(bucket, at + len(mark))
            columns = self._columns[number]
            if columns.digest(row) == digest:
                return columns.key(row)
            at = _find(bucket, mark, at + 1)
        raise KeyError(digest)

    def __iter__(self) -> Iterator[bytes]:
        return (columns.digest(row) for columns in self._columns.values() for row in range(len(columns)))

    def __len__(self) -> int:
        return sum(map(len, self._columns.values()))

    def _remove(self, number: int) -> None:
        columns = self._columns.pop(number)
        for row in range(len(columns)):
            digest = columns.digest(row)
            bucket = self._bucket(digest)
            at = _find(bucket, _ENTRY.pack(digest[2:4], number, row))
            del bucket[at : at + _ENTRY.size]
        self._free.append(number)

    def _bucket(self, digest: bytes) -> bytearray:
        return self._buckets[(digest[0] << 8 | digest[1]) >> 16 - _BUCKETS_LOG2]


def _find(bucket: bytearray, wanted: bytes, start: int = 0) -> int:
    """Return where the first entry at or after ``start`` begins that begins with these bytes, -1 if none does."""
    at = bucket.find(wanted, start)
    while at > 0 and at % _ENTRY.size:
        at = bucket.find(wanted, at + 1)
    return at


class _Columns:
    """The keys of one project, one row each."""

    __slots__ = ("_digests", "_expiries", "_ids", "_kind_of", "_kinds", "_odd_ids", "_project_id")

    def __init__(self, project_id: str, keys: Mapping[bytes, KnownKey]) -> None:
        kinds: dict[tuple[bool, str | None], int] = {}
        packed = [pack_id(_PREFIX, key.id) for key in keys.values()]
        self._project_id = project_id
        self._digests = b"".join(keys)
        self._ids = b"".join(each or bytes(_ID) for each in packed)
        #: By row: ids that are none of the platform's making.
        self._odd_ids = {row: key.id for row, key in enumerate(keys.values()) if packed[row] is None}
        self._expiries = array("d", [inf if key.expires_at is None else key.expires_at for key in keys.values()])
        kind_of = [kinds.setdefault((key.may_invoke, key.endpoint), len(kinds)) for key in keys.values()]
        self._kind_of = array("H" if len(kinds) <= 0x10000 else "I", kind_of)
        self._kinds = tuple(kinds)

    def __len__(self) -> int:
        return len(self._kind_of)

    def digest(self, row: int) -> bytes:
        return self._digests[_DIGEST * row : _DIGEST * (row + 1)]

    def key(self, row: int) -> KnownKey:
        id_ = self._odd_ids.get(row)
        if id_ is None:
            id_ = unpack_id(_PREFIX, self._ids[_ID * row : _ID * (row + 1)])
        expires_at = self._expiries[row]
        may_invoke, endpoint = self._kinds[self._kind_of[row]]
        return KnownKey(id_, self._project_id, may_invoke, None if expires_at == inf else expires_at, endpoint)
