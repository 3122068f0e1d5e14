"""Streamed uploads: from a request body to a temporary file, within a limit."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from .disk import require_room
from .errors import BodyTooLarge, UnreadableBody
from .settings import Settings

# What a route says in the API's description when its body is a file.
BINARY_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}


def received(
    body: AsyncIterator[bytes], settings: Settings, *, at_most: int | None = None
) -> AbstractAsyncContextManager[Path]:
    """Spool a body within the limit of the settings and, where that is less, of ``at_most`` bytes."""
    largest = settings.http.max_upload_bytes
    return spooled(body, folder=settings.home / "tmp", limit_bytes=min(largest, at_most or largest))


@asynccontextmanager
async def spooled(body: AsyncIterator[bytes], *, folder: Path, limit_bytes: int) -> AsyncIterator[Path]:
    """Write a body to a file below ``folder`` that lives as long as the block.

    Raises:
        BodyTooLarge: If more than ``limit_bytes`` arrive.
        UnreadableBody: If nothing arrives.
        DiskFull: If the disk has no room for it.
    """
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    require_room(folder)
    with TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "upload"
        size = 0
        async with await anyio.open_file(path, "wb") as file:
            async for piece in body:
                size += len(piece)
                if size > limit_bytes:
                    raise BodyTooLarge(f"The file is larger than the limit of {limit_bytes} bytes.")
                require_room(folder)
                await file.write(piece)
        if size == 0:
            raise UnreadableBody("The request has no body: send the file itself as the body.")
        yield path
