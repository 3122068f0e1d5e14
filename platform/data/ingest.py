"""From an upload to a table in the object store; holds no database session while it works."""

from hashlib import file_digest
from pathlib import Path

from ..kernel.resources import Resources
from ..projects.blobs import keep_file
from .service import StoredTable
from .tables import to_parquet


def store_table(resources: Resources, *, project_id: str, upload: Path, filename: str) -> StoredTable:
    """Convert an uploaded file beside itself and store the result.

    A table that is stored and never gets its row is collected later.

    Raises:
        ValidationFailed: If the file is not a table that can be kept.
        QuotaExceeded: If the project may not store that much more.
    """
    target = upload.with_name("table.parquet")
    try:
        profile = to_parquet(upload, filename=filename, target=target)
        with upload.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        return StoredTable(
            blob=keep_file(resources, project_id=project_id, path=target),
            row_count=profile.row_count,
            columns=profile.schema(),
            statistics=profile.statistics(),
            quality=profile.quality(),
            source={"filename": filename, "source_sha256": digest, "source_size_bytes": upload.stat().st_size},
        )
    finally:
        target.unlink(missing_ok=True)
