"""The node's cache of model artifacts: fetched once, addressed by content, checked whenever a model is loaded."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from uuid import uuid4

import structlog

from ...kernel.storage import BlobNotFound, ObjectStore, StoreUnavailable
from ..errors import ModelBroken, ModelUnavailable
from ..published.table import Revision

log = structlog.get_logger(__name__)


class ArtifactCache:
    """Files below one folder, shared by the replicas of a node, within a bound of bytes."""

    def __init__(self, store: ObjectStore, folder: Path, *, max_bytes: int) -> None:
        self._store = store
        self._folder = folder
        self._max_bytes = max_bytes

    def fetch(self, revision: Revision) -> Path:
        """Return a local file with the revision's artifact; blocks while it is fetched.

        Raises:
            ModelUnavailable: If the object store does not give it.
            ModelBroken: If what it gives is not what was published.
        """
        # A folder of its own for each: an ONNX file may name files beside it as its weights.
        path = self._folder / revision.sha256[:2] / revision.sha256 / "artifact"
        # Other servers of the node prune at any moment.
        with suppress(FileNotFoundError, NotADirectoryError):
            if _digest(path) == revision.sha256:
                os.utime(path)
                return path
            log.warning("damaged_artifact_fetched_again", sha256=revision.sha256)
        self._download(revision, path)
        self._prune(keep=path)
        return path

    def _download(self, revision: Revision, path: Path) -> None:
        # Under a name of its own until it is known to be whole: another load of the same digest may be reading.
        fetched = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            self._store.fetch(revision.uri, fetched)
            if _digest(fetched) != revision.sha256:
                raise ModelBroken(f"The artifact {revision.uri} is not the one that was published: its digest differs.")
            fetched.replace(path)
        except BlobNotFound as error:
            raise ModelBroken(f"The artifact {revision.uri} is not in the object store.") from error
        except (OSError, StoreUnavailable) as error:
            raise ModelUnavailable(
                "The object store does not answer; try again in a moment.", retry_after_s=2
            ) from error
        finally:
            with suppress(OSError):
                fetched.unlink(missing_ok=True)

    def _prune(self, keep: Path) -> None:
        total = 0
        for _, size, file in sorted(self._held(keep), reverse=True):
            total += size
            if total > self._max_bytes and file != keep:
                file.unlink(missing_ok=True)

    def _held(self, keep: Path) -> Iterator[tuple[float, int, Path]]:
        """Yield each file with its last use, which of the one to keep is now, and its size."""
        for file in self._folder.glob("*/*/artifact"):
            with suppress(FileNotFoundError):
                status = file.stat()
                yield inf if file == keep else status.st_mtime, status.st_size, file


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
