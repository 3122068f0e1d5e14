"""The node's cache of model artifacts: fetched once, addressed by content, checked whenever a model is loaded."""

import hashlib
import os
from pathlib import Path

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
        if path.exists():
            if _digest(path) == revision.sha256:
                os.utime(path)
                return path
            log.warning("damaged_artifact_fetched_again", sha256=revision.sha256)
        self._download(revision, path)
        if _digest(path) != revision.sha256:
            path.unlink(missing_ok=True)
            raise ModelBroken(f"The artifact {revision.uri} is not the one that was published: its digest differs.")
        self._prune(keep=path)
        return path

    def _download(self, revision: Revision, path: Path) -> None:
        try:
            self._store.fetch(revision.uri, path)
        except BlobNotFound as error:
            raise ModelBroken(f"The artifact {revision.uri} is not in the object store.") from error
        except (OSError, StoreUnavailable) as error:
            raise ModelUnavailable(
                "The object store does not answer; try again in a moment.", retry_after_s=2
            ) from error

    def _prune(self, keep: Path) -> None:
        files = sorted(
            (
                (file.stat().st_mtime, file.stat().st_size, file)
                for file in self._folder.glob("*/*/artifact")
                if file != keep
            ),
            reverse=True,
        )
        total = keep.stat().st_size
        for _, size, file in files:
            total += size
            if total > self._max_bytes:
                file.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
