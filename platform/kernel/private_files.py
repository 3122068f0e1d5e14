"""Small files that only the owner may read, written whole or not at all, one writer of a folder at a time."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "write_whole"]


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """Put ``content`` in the place of a file; whoever reads it sees the former file or this one, never a half."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    written = content.encode() if isinstance(content, str) else content
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(written)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that changes the folder's files; the folder is made, 0700, where it is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
