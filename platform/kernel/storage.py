"""The object store: content-addressed blobs by fsspec, on a local folder, S3 or anything else it speaks.

A blob lives at ``<project id>/sha256/<first two hex digits>/<digest>``: equal content is stored once in a project and
never shared between projects. It is written under a temporary name and moved, so a reader never sees half a blob.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

import fsspec
from fsspec.core import url_to_fs

from .errors import NotFound
from .settings import Settings

_CHUNK = 1 << 20


class BlobNotFound(NotFound):
    """Raised when the object store does not hold the blob."""


@dataclass(frozen=True)
class Blob:
    """A stored object: where it lies and what it is."""

    uri: str
    sha256: str
    size_bytes: int


class ObjectStore:
    """Blobs and small named documents below one URL."""

    def __init__(self, settings: Settings) -> None:
        options = {"auto_mkdir": True} if settings.storage_url.startswith("file:") else {}
        self._fs: fsspec.AbstractFileSystem
        self._fs, self._root = url_to_fs(settings.storage_url, **{**options, **settings.storage.options})

    def put_file(self, project_id: str, path: Path) -> Blob:
        """Store a local file under its digest and return the blob."""
        digest, size = _digest(path)
        uri = f"{project_id}/sha256/{digest[:2]}/{digest}"
        if not self._fs.exists(self._path(uri)):
            self._upload(path, uri)
        return Blob(uri=uri, sha256=digest, size_bytes=size)

    def put_document(self, uri: str, content: bytes) -> None:
        """Replace a small named document whole."""
        temporary = f"{uri}.{uuid4().hex}"
        self._fs.makedirs(self._fs._parent(self._path(uri)), exist_ok=True)
        self._fs.pipe_file(self._path(temporary), content)
        self._fs.mv(self._path(temporary), self._path(uri))

    def get_document(self, uri: str) -> bytes:
        """Read a small document whole.

        Raises:
            BlobNotFound: If there is none.
        """
        with self.open(uri) as file:
            content: bytes = file.read()
            return content

    def list_documents(self, prefix: str) -> list[str]:
        """Return the uris of the documents below ``prefix``, sorted."""
        found = self._fs.find(self._path(prefix))
        return sorted(path.removeprefix(self._root).lstrip("/") for path in found)

    def open(self, uri: str) -> IO[bytes]:
        """Open a blob for reading, seekable.

        Raises:
            BlobNotFound: If there is none.
        """
        try:
            file: IO[bytes] = self._fs.open(self._path(uri), "rb")
        except FileNotFoundError as error:
            raise BlobNotFound(f"The object {uri} is not in the store.") from error
        return file

    def chunks(self, uri: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read the bytes from ``start`` up to ``stop`` (exclusive) in pieces of at most 1 MiB."""
        with self.open(uri) as file:
            file.seek(start)
            left = None if stop is None else stop - start
            while left is None or left > 0:
                piece = file.read(_CHUNK if left is None else min(_CHUNK, left))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    def fetch(self, uri: str, target: Path) -> None:
        """Copy a blob to a local file, whole or not at all.

        Raises:
            BlobNotFound: If there is none.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid4().hex}")
        try:
            with self.open(uri) as source, temporary.open("wb") as sink:
                shutil.copyfileobj(source, sink, _CHUNK)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, uri: str) -> None:
        """Remove a blob; one that is already gone is no error."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(uri))

    def ping(self) -> None:
        """Write and remove a small object, to prove that the store takes writes."""
        probe = f".probe/{uuid4().hex}"
        self.put_document(probe, b"ok")
        self.delete(probe)

    def _upload(self, path: Path, uri: str) -> None:
        temporary = f".uploads/{uuid4().hex}"
        try:
            self._fs.makedirs(self._fs._parent(self._path(temporary)), exist_ok=True)
            self._fs.put_file(str(path), self._path(temporary))
            self._fs.makedirs(self._fs._parent(self._path(uri)), exist_ok=True)
            self._fs.mv(self._path(temporary), self._path(uri))
        finally:
            self.delete(temporary)

    def _path(self, uri: str) -> str:
        return f"{self._root}/{uri}"


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, path.stat().st_size
