"""A small disk that a test may fill: a file system in memory, where this account may mount one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def mount(folder: Path, *, size_bytes: int) -> bool:
    """Mount an empty file system of that size on ``folder``; tell whether this account may."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def unmount(folder: Path) -> None:
    """Take the file system away, if there is one, as soon as nobody uses it."""
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path, *, size_bytes: int) -> Iterator[Path]:
    """Mount a file system of that size on ``folder`` for the length of the block; skip the test where it cannot be."""
    if not mount(folder, size_bytes=size_bytes):
        pytest.skip("this account may not mount a small disk")
    try:
        yield folder
    finally:
        unmount(folder)


def fill(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Fill the disk of ``folder`` with one file, which is returned, but for some bytes; others may write meanwhile."""
    filler = folder / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while (free := os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - leave_bytes) > 0:
            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), max(free // 2, 4096))
    return filler
