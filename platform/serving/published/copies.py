"""Copies of the published documents that outlive Valkey: in the object store, and on each node's own disk."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import structlog

from ...kernel.storage import ObjectStore
from ..errors import DocumentForged
from .documents import SealedDocument, read_envelope

log = structlog.get_logger(__name__)

_FOLDER = ".serving"
_READERS = 16


def store_copy(store: ObjectStore, sealed: SealedDocument) -> None:
    """Keep a published document in the object store, where new servers look when Valkey is empty or away."""
    store.put_document(f"{_FOLDER}/{sealed.kind}/{sealed.key}.json", sealed.to_bytes())


def copy_uris(store: ObjectStore) -> list[str]:
    """Return where in the object store the envelopes lie."""
    return [uri for uri in store.list_documents(_FOLDER) if uri.endswith(".json")]


def read_copies(store: ObjectStore, uris: Sequence[str]) -> list[bytes]:
    """Return the envelopes that lie there."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(store.get_document, uris))


class DiskCopies:
    """A node's last known documents, below ``$RAYMILL_HOME/serving``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the files in which the envelopes lie."""
        return [str(path.relative_to(self._folder)) for path in sorted(self._folder.glob("*/*.json"))]

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Return the envelopes in these files."""
        return [(self._folder / name).read_bytes() for name in names]

    def keep(self, documents: Iterable[SealedDocument]) -> None:
        """Write documents unless this disk holds later ones; readers never see half of one."""
        for sealed in documents:
            self._keep(sealed)

    def _keep(self, sealed: SealedDocument) -> None:
        path = self._folder / sealed.kind / f"{sealed.key}.json"
        if self._version_at(path) >= sealed.version:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            temporary.write_bytes(sealed.to_bytes())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _version_at(self, path: Path) -> int:
        try:
            return read_envelope(path.read_bytes()).version
        except FileNotFoundError:
            return 0
        except DocumentForged:
            log.warning("damaged_copy_replaced", path=str(path))
            return 0


class CopyWriter:
    """Writes copies to a node's disk in a thread; what the disk refuses waits in memory until it takes it."""

    def __init__(self, disk: DiskCopies) -> None:
        self._disk = disk
        self._unkept: dict[str, SealedDocument] = {}
        self._writing: asyncio.Task[None] | None = None
        self._is_refused = False

    def keep(self, sealed: SealedDocument) -> None:
        """Write a copy soon; with the others where the disk has refused some."""
        self._unkept[sealed.name] = sealed
        if not self._is_refused:
            self.write()

    def write(self) -> None:
        """Begin to write what is not on the disk yet."""
        if self._unkept and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(), name="write copies")

    async def wait(self, timeout_s: float | None = None) -> None:
        """Wait until what is being written is on the disk or refused."""
        if self._writing:
            await asyncio.wait({self._writing}, timeout=timeout_s)

    async def _write(self) -> None:
        while self._unkept:
            batch, self._unkept = self._unkept, {}
            try:
                await asyncio.to_thread(self._write_batch, batch)
            except OSError as error:
                self._unkept = batch | self._unkept
                self._note_refusal(error)
                return
            self._is_refused = False

    def _write_batch(self, batch: dict[str, SealedDocument]) -> None:
        """Write copies and take them out of the batch; the one that is refused comes last of what is left."""
        for name, sealed in list(batch.items()):
            del batch[name]
            try:
                self._disk.keep([sealed])
            except OSError:
                batch[name] = sealed
                raise

    def _note_refusal(self, error: OSError) -> None:
        if not self._is_refused:
            log.warning("documents_not_kept_on_disk", error=str(error))
        self._is_refused = True
