"""Room on the platform's own disk: some is kept free, so that a full disk stops uploads and jobs and nothing else."""

import errno
import shutil
from pathlib import Path

from .errors import DiskFull

#: Bytes that uploads leave to the databases and the logs.
RESERVE_BYTES = 64 * 2**20


def require_room(folder: Path) -> None:
    """Refuse work that would write to the disk of ``folder`` when that is as good as full.

    Raises:
        DiskFull: If less than the reserve is free.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if shutil.disk_usage(there).free < RESERVE_BYTES:
        raise DiskFull


def means_full(error: OSError) -> bool:
    """Tell whether a write failed for want of room (or of quota)."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


__all__ = ["means_full", "require_room"]
