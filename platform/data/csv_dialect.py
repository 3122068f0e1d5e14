"""How a CSV file divides its fields and writes its fractions, seen from its first lines."""

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import UnreadableTable

_SAMPLE_BYTES = 1 << 16
_DELIMITERS = b",;\t|"
_QUOTED = re.compile(rb'"[^"]*"')
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Dialect:
    """The sign between fields, and the one before the digits of a fraction."""

    delimiter: str = ","
    decimal_point: str = "."


def read_dialect(path: Path) -> Dialect:
    """Choose the sign that divides the header most often; the comma if none does.

    Raises:
        UnreadableTable: If the file is in UTF-16 or UTF-32.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    if sample.startswith(_WIDE_MARKS):
        raise UnreadableTable("The file cannot be read: it is in UTF-16; save it as UTF-8.")
    header, _, rows = _QUOTED.sub(b"", sample).partition(b"\n")
    delimiter = bytes([max(_DELIMITERS, key=lambda sign: header.count(sign))])
    return Dialect(delimiter.decode(), "," if delimiter != b"," and _has_decimal_commas(delimiter, rows) else ".")


def _has_decimal_commas(delimiter: bytes, rows: bytes) -> bool:
    def count(point: bytes) -> int:
        # What follows is only looked at, so that it may begin the next field.
        number = rb"(?:^|%b) *-?\d+%b\d+ *(?=%b|\r?$)" % (re.escape(delimiter), re.escape(point), re.escape(delimiter))
        return len(re.findall(number, rows, re.MULTILINE))

    return count(b",") > count(b".")
