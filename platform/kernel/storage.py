"""The object store: content-addressed blobs by fsspec, on a local folder, S3 or anything else it speaks.

A blob lives at ``<project id>/sha256/<first two hex digits>/<digest>``: equal content is stored once in a project and
never shared between projects. A reader never sees half a blob: S3 and its like show an object when all of it is there;
on a file system it is written under a temporary name and moved.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import fsspec
from fsspec.core import split_protocol, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from .disk import means_full
from .errors import DiskFull, ExternalServiceError, NotFound, RaymillError
from .settings import Settings

_CHUNK = 1 << 20
# What a file system is opened with unless the settings say otherwise. By itself s3fs keeps listings in memory, which
# hides what other processes write and remove, holds ten parts of 50 MiB of an upload, reads 50 MiB ahead, and tries
# for six seconds to connect.
_OPTIONS: dict[str, dict[str, Any]] = {
    "file": {"auto_mkdir": True},
    "s3": {
        "use_listings_cache": False,
        "max_concurrency": 2,
        "default_block_size": 4 << 20,
        "config_kwargs": {"connect_timeout": 3, "retries": {"mode": "standard", "total_max_attempts": 2}},
    },
}
# Stores without folders and renames, where an object appears whole when its upload ends.
_WHOLE = frozenset({"s3", "gs", "abfs", "memory"})


class BlobNotFound(NotFound):
    """Raised when the object store does not hold the blob."""


class StoreUnavailable(ExternalServiceError):
    """Raised when the object store does not answer or refuses what is asked."""

    def __init__(self) -> None:
        super().__init__("The object store does not answer or refuses; try again in a moment.", retry_after_s=2)


@dataclass(frozen=True)
class Blob:
    """A stored object: where it lies and what it is."""

    uri: str
    sha256: str
    size_bytes: int


class ObjectStore:
    """Blobs and small named documents below one URL.

    A store over the network that fails raises ``StoreUnavailable``, a full disk ``DiskFull``, other trouble of a disk
    ``OSError``.
    """

    def __init__(self, settings: Settings) -> None:
        protocol = split_protocol(settings.storage_url)[0] or "file"
        options = _OPTIONS.get(protocol, {}) | settings.storage.options
        self._fs: fsspec.AbstractFileSystem
        self._fs, self._root = url_to_fs(settings.storage_url, **options)
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._writes_whole = not _WHOLE.isdisjoint(_protocols(self._fs))

    def put_file(self, project_id: str, path: Path) -> Blob:
        """Store a local file under its digest and return the blob."""
        blob = self.describe_file(project_id, path)
        self.put_blob(blob, path)
        return blob

    def describe_file(self, project_id: str, path: Path) -> Blob:
        """Return the blob that a local file would be, without storing it."""
        digest, size = _digest(path)
        return Blob(uri=f"{project_id}/sha256/{digest[:2]}/{digest}", sha256=digest, size_bytes=size)

    def put_blob(self, blob: Blob, path: Path) -> None:
        """Store the local file that was described as this blob."""
        with self._answering():
            if not self._fs.exists(self._path(blob.uri)):
                self._place(blob.uri, lambda target: self._fs.put_file(str(path), target))

    def put_document(self, uri: str, content: bytes) -> None:
        """Replace a small named document whole."""
        with self._answering():
            self._place(uri, lambda target: self._fs.pipe_file(target, content))

    def get_document(self, uri: str) -> bytes:
        """Read a small document whole.

        Raises:
            BlobNotFound: If there is none.
        """
        with self._reading(uri):
            content: bytes = self._fs.cat_file(self._path(uri))
            return content

    def list_documents(self, prefix: str) -> list[str]:
        """Return the uris of the documents below ``prefix``, sorted."""
        below = f"{self._path(prefix).rstrip('/')}/"
        with self._reading(prefix):
            found = self._fs.find(self._path(prefix))
        # An empty folder, which some S3 servers show, is found as itself.
        return sorted(path.removeprefix(f"{self._root}/") for path in found if path.startswith(below))

    def list_folders(self, prefix: str) -> list[str]:
        """Return the names of the folders right below ``prefix``, sorted; none if it is not there."""
        with self._answering():
            try:
                found = self._fs.ls(self._path(prefix), detail=True)
            except FileNotFoundError:
                return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory")

    def delete_folder(self, prefix: str) -> None:
        """Remove everything below ``prefix``; what is already gone is no error."""
        with self._answering(), suppress(FileNotFoundError):
            self._fs.rm(self._path(prefix), recursive=True)

    def open(self, uri: str) -> IO[bytes]:
        """Open a blob for reading, seekable.

        Raises:
            BlobNotFound: If there is none.
        """
        with self._reading(uri):
            file: IO[bytes] = self._fs.open(self._path(uri), "rb")
        return file

    def chunks(self, uri: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read the bytes from ``start`` up to ``stop`` (exclusive) in pieces of at most 1 MiB."""
        with self._reading(uri), self.open(uri) as file:
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
            with self._reading(uri):
                self._fs.get_file(self._path(uri), str(temporary))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, uri: str) -> None:
        """Remove a blob; one that is already gone is no error."""
        with self._answering(), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(uri))

    def ping(self) -> None:
        """Write and remove a small object, to prove that the store takes writes."""
        probe = f".probe/{uuid4().hex}"
        self.put_document(probe, b"ok")
        self.delete(probe)

    def _place(self, uri: str, write: Callable[[str], object]) -> None:
        """Let ``write`` make the object so that nobody sees half of it."""
        target = self._path(uri)
        if self._writes_whole:
            write(target)
            return
        temporary = self._path(f".uploads/{uuid4().hex}")
        try:
            for path in (temporary, target):
                self._fs.makedirs(self._fs._parent(path), exist_ok=True)
            write(temporary)
            self._fs.mv(temporary, target)
        finally:
            with suppress(FileNotFoundError):
                self._fs.rm_file(temporary)

    @contextmanager
    def _reading(self, uri: str) -> Iterator[None]:
        with self._answering():
            try:
                yield
            except FileNotFoundError as error:
                raise BlobNotFound(f"The object {uri} is not in the store.") from error

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except RaymillError:
            raise
        except Exception as error:  # every driver raises classes of its own
            if isinstance(error, OSError) and means_full(error):
                raise DiskFull from error
            if self._is_local:
                raise
            raise StoreUnavailable from error

    def _path(self, uri: str) -> str:
        return f"{self._root}/{uri}"


def _protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, path.stat().st_size
