"""Processes that outlive the command that started them: identity, ports, waiting, ending.

A pid alone is no identity, because the kernel hands it out again. A `ProcessIdentity` is a pid together with the moment
at which that process was made; it names one process for ever.
"""

import json
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from ...kernel.private_files import write_whole
from .errors import StartFailed

POLL_S = 0.05
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, also after its pid has been given to another."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """Identity of the running process `pid`; raises psutil.NoSuchProcess."""
        return cls(pid, _started(pid))

    def find(self) -> psutil.Process | None:
        """The process, or None when it has ended."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if _started(self.pid) == self.started and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def _started(pid: int) -> str:
    """When the process was made, in a form that a change of the machine's clock leaves alone."""
    try:
        # proc(5): the name in parentheses may hold spaces; field 22, the 20th after it, counts ticks since boot
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{_BOOT_ID.read_text().strip()}:{ticks}"
    except (FileNotFoundError, ProcessLookupError):
        return f"{psutil.Process(pid).create_time():.2f}"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a small JSON document, mode 0600."""
    write_whole(path, json.dumps(state, indent=2) + "\n")


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; an empty dict when there is no such file."""
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return state


def write_identity(path: Path, pid: int) -> ProcessIdentity:
    """Record the running process `pid` in a pid file."""
    identity = ProcessIdentity.of(pid)
    write_state(path, asdict(identity))
    return identity


def find_recorded(path: Path) -> psutil.Process | None:
    """The process that a pid file names, or None when it has ended."""
    state = read_state(path)
    return ProcessIdentity(state["pid"], state["started"]).find() if state else None


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """The preferred port when it is free, else one that the kernel picks."""
    if preferred is not None and port_is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def describe_listener(port: int) -> str:
    """Say who listens on the port, as far as the caller may see it: ` by pid 12 (redis-server)` or nothing."""
    with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
        for connection in psutil.net_connections("tcp"):
            here = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if here and connection.pid:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def wait_until(check: Callable[[], bool], *, timeout_s: float, failure: Callable[[], str]) -> None:
    """Poll `check` until it holds.

    Args:
        check: Asked every 50 ms; may raise to give up early.
        timeout_s: Seconds to wait at most.
        failure: Makes the sentence of the error.

    Raises:
        StartFailed: When the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise StartFailed(failure())
        time.sleep(POLL_S)


def last_line(log: Path, words: Iterable[str] = ()) -> str:
    """The last line of a log that has one of the words, else its last line, else an empty string."""
    if not log.exists():
        return ""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if any(word in line for word in words)]
    return next(reversed(told or lines), "")


def end_processes(processes: Iterable[psutil.Process], *, grace_s: float) -> list[psutil.Process]:
    """Send SIGTERM, after the grace SIGKILL, and return what is still alive 5 s later."""
    alive = list(processes)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    alive = wait_ended(alive, timeout_s=grace_s)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return wait_ended(alive, timeout_s=5.0)


def wait_ended(processes: Iterable[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Wait until the processes have ended and return those that have not.

    Unlike `psutil.wait_procs` it does not wait for the parent to collect them, which a container's init may do late.
    """
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_S)
        alive = [process for process in alive if is_alive(process)]
    return alive


def is_alive(process: psutil.Process) -> bool:
    """Tell whether the process runs; one that has ended but was not collected by its parent does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
