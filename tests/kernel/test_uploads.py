"""Bodies on their way to a file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raymill.kernel.errors import BodyTooLarge, UnreadableBody
from raymill.kernel.uploads import spooled


class HungUp(Exception):
    pass


async def body(*pieces: bytes, end: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if end is not None:
        raise end


def spool(folder: Path, stream: AsyncIterator[bytes], limit_bytes: int = 10) -> bytes:
    async def run() -> bytes:
        async with spooled(stream, folder=folder, limit_bytes=limit_bytes) as path:
            return path.read_bytes()

    return asyncio.run(run())


def test_a_body_becomes_a_file_that_goes_away(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    assert spool(folder, body(b"01234", b"", b"56789")) == b"0123456789"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (lambda: body(b"0123456789", b"x"), BodyTooLarge),
        (lambda: body(), UnreadableBody),
        (lambda: body(b""), UnreadableBody),
        (lambda: body(b"0123", end=HungUp()), HungUp),
    ],
    ids=["too large", "nothing", "empty", "hung up"],
)
def test_a_bad_body_leaves_nothing(tmp_path: Path, stream: object, error: type[Exception]) -> None:
    assert callable(stream)
    with pytest.raises(error):
        spool(tmp_path, stream())
    assert list(tmp_path.iterdir()) == []
