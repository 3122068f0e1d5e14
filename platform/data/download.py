"""Byte ranges of a download (RFC 9110 section 14)."""

import re
from dataclasses import dataclass

from .errors import RangeNotSatisfiable

_SINGLE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class ByteRange:
    """The part of a file to be sent: ``start`` inclusive, ``stop`` exclusive."""

    start: int
    stop: int
    size: int

    @property
    def status(self) -> int:
        """200 for the whole file, 206 for a part."""
        return 200 if (self.start, self.stop) == (0, self.size) else 206

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe this part."""
        described = {"Accept-Ranges": "bytes", "Content-Length": str(self.stop - self.start)}
        if self.status == 206:
            described["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{self.size}"
        return described


def byte_range(header: str | None, size: int) -> ByteRange:
    """Read a Range header; without one, or with several ranges, the whole file is sent.

    Raises:
        RangeNotSatisfiable: If the range lies outside of the file.
    """
    match = _SINGLE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return ByteRange(0, size, size)
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        raise RangeNotSatisfiable(f"The file has {size} bytes; the range {header!r} lies outside of it.")
    return ByteRange(start, stop, size)
