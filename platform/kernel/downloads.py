"""Streamed downloads of blobs, with HEAD and single byte ranges (RFC 9110, section 14)."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from .errors import ValidationFailed
from .storage import Blob, ObjectStore

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class RangeNotSatisfiable(ValidationFailed):
    """Raised when the asked range begins behind the end of the content."""

    status = 416

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range lies outside of the content, which is {size_bytes} bytes long.")
        self._size_bytes = size_bytes

    @property
    def headers(self) -> dict[str, str]:
        """Say how long the content is, as RFC 9110 section 15.5.17 asks."""
        return {"Content-Range": f"bytes */{self._size_bytes}"}


def blob_answers(media_type: str = "application/octet-stream") -> dict[int | str, dict[str, Any]]:
    """Return what a route that sends blobs says in the API's description."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"content": content}, 206: {"description": "One range of it", "content": content}, 416: {}}


def blob_answer(
    store: ObjectStore,
    blob: Blob,
    *,
    method: str,
    headers: Mapping[str, str],
    filename: str,
    media_type: str = "application/octet-stream",
) -> Response:
    """Answer a GET or HEAD of a blob: whole, or the one range that the request asks for.

    Several ranges in one request are answered with the whole content, which the RFC allows.

    Raises:
        RangeNotSatisfiable: If the range begins behind the end.
        BlobNotFound: If the store has lost the blob.
    """
    etag = f'"{blob.sha256}"'
    unchanged = headers.get("if-range", etag) == etag
    part = parse_range(headers.get("range", ""), blob.size_bytes) if unchanged else None
    start, stop = part or (0, blob.size_bytes)
    fields = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Content-Length": str(stop - start),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    if part is not None:
        fields["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size_bytes}"
    status = 200 if part is None else 206
    store.open(blob.uri).close()
    if method == "HEAD":
        return Response(status_code=status, headers=fields, media_type=media_type)
    pieces = store.chunks(blob.uri, start=start, stop=stop)
    return StreamingResponse(pieces, status_code=status, headers=fields, media_type=media_type)


def parse_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """Return the first byte and the byte after the last of a single range; None when it is to be ignored.

    Raises:
        RangeNotSatisfiable: If the range begins behind the end, or asks for the last 0 bytes.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        start, stop = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return None
    if start >= size_bytes or start >= stop:
        raise RangeNotSatisfiable(size_bytes)
    return start, stop
