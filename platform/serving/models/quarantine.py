"""Artifacts that end the process that loads them: found out before they can hurt, and not loaded any more.

An artifact that is new to the node is first loaded by a process of its own (``trial``), within bounds of memory and
time. Every load in a server is noted on the node's disk by a file that the server holds locked; a note that nobody
holds belongs to a server that died loading, and makes its artifact a suspect, which must stand a trial again. What has
ended two processes is quarantined for all servers of the node; a revision that is made afterwards stands trial anew,
and one that is loaded clears the artifact for all.

    <folder>/<sha256>/proven-<what>  it was loaded and has answered this warm-up request, and its process lived
    <folder>/<sha256>/loading-<id>   a server is loading it, or died of that
    <folder>/<sha256>/death-<time>   it ended a process; the content says how

A disk that takes no records is no reason not to serve.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import structlog

from ..errors import ModelBroken, ModelQuarantined, ModelUnavailable
from ..published.table import Revision
from .trial import OUT_OF_MEMORY, Order

log = structlog.get_logger(__name__)

DEATHS = 2
# One more than one project may have on at a time.
_TRIALS = 4
_TRIAL_S = 120.0
_SLACK_BYTES = 256 * 2**20

_SHOWN = 300
_PROVEN, _LOADING, _DEATH = "proven-", "loading-", "death-"


class Quarantine:
    """What is known on this node of the artifacts that may end a process."""

    def __init__(
        self,
        folder: Path,
        *,
        capacity_bytes: int,
        tries_all: bool,
        command: Sequence[str] = (sys.executable, "-m", "raymill.serving.models.trial"),
    ) -> None:
        """Read nothing yet.

        Args:
            folder: Where the node keeps its records.
            capacity_bytes: Of the pool; a trial may take twice as much, for the file and for what is made of it.
            tries_all: Whether artifacts that are new to the node stand trial, or only suspects.
            command: The process that tries one.
        """
        self._folder = folder
        self._memory_bytes = 2 * capacity_bytes + _SLACK_BYTES
        self._tries_all = tries_all
        self._command = command
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False
        #: Threads that wait for trials, apart from those that load.
        self.executor = ThreadPoolExecutor(_TRIALS, thread_name_prefix="try")

    def must_try(self, revision: Revision) -> bool:
        """Tell whether the artifact must stand a trial before it is loaded here.

        Raises:
            ModelQuarantined: If it has ended too many processes since the revision was made.
        """
        deaths = self._deaths(revision.sha256)
        held_against_it = [death for death in deaths if _seconds(death) >= revision.made_at]
        if len(held_against_it) >= DEATHS:
            raise ModelQuarantined(
                f"The artifact is quarantined: loading it ended {len(held_against_it)} processes of this node, the "
                f"last thus: {deaths[-1].read_text()} Deploy another model version, or this one again to let it stand "
                "trial anew."
            )
        is_proven = (self._folder / revision.sha256 / _proof(revision)).exists()
        return not is_proven and (self._tries_all or bool(deaths))

    def try_out(self, revision: Revision, path: Path) -> None:
        """Let a process of its own load the artifact, as often as it may die of it; blocks meanwhile.

        Raises:
            ModelQuarantined: If it has ended too many processes.
            ModelBroken: If it cannot be served.
            ModelUnavailable: If the server stops meanwhile.
        """
        order = Order(revision=revision, path=path, memory_bytes=self._memory_bytes).model_dump_json().encode()
        for _ in range(DEATHS):
            if not self.must_try(revision):
                return
            status, verdict, complaint = self._run(order)
            if self._is_closed:
                raise ModelUnavailable("The model server is stopping.", retry_after_s=1)
            if not status:
                break
            self._note_death(revision.sha256, self._reason(status, complaint))
        if status:
            self.must_try(revision)
            raise ModelBroken(f"Loading the artifact ended a process: {self._reason(status, complaint)}")
        if verdict:
            raise ModelBroken(verdict)
        self._write(revision.sha256, _proof(revision), "")

    @contextmanager
    def watch(self, revision: Revision) -> Iterator[None]:
        """Note a load in this process for as long as it lasts, for those who may come after it."""
        note = self._begin(revision.sha256)
        try:
            yield
        finally:
            if note:
                note.close()
        for death in self._deaths(revision.sha256):
            _remove(death)

    def close(self) -> None:
        """End the trials that are on, which says nothing of their artifacts."""
        self._is_closed = True
        for process in list(self._running):
            process.kill()
        self.executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, order: bytes) -> tuple[int, str, str]:
        """Return the status of a trial, its verdict, and the last line that it complained with."""
        pipe = subprocess.PIPE
        with subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
            self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=_environment()
        ) as process:
            self._running.add(process)
            try:
                verdict, complaint = process.communicate(order, timeout=_TRIAL_S)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise ModelBroken(f"The artifact was not loaded within {_TRIAL_S:g} s.") from error
            finally:
                self._running.discard(process)
        lines = complaint.decode(errors="replace").strip().splitlines()
        return process.returncode, verdict.decode(errors="replace"), lines[-1][:_SHOWN] if lines else ""

    def _reason(self, status: int, complaint: str) -> str:
        if status == OUT_OF_MEMORY:
            return f"it took more than the {self._memory_bytes} bytes that a load may take."
        return f"it ended {f'by signal {-status}' if status < 0 else f'with status {status}'}. {complaint}".strip()

    def _deaths(self, sha256: str) -> list[Path]:
        """Return the records of deaths, oldest first, after what dead servers have left was made one.

        Servers that died together, as in an outage, make one: it has suspicions, and a trial to clear them.
        """
        folder = self._folder / sha256
        if _records(folder, _LOADING):
            with _alone(self._folder):
                if dead := [note for note in _records(folder, _LOADING) if _is_abandoned(note)]:
                    self._note_death(sha256, "a model server died while it loaded the artifact.")
                    for note in (*dead, *_records(folder, _PROVEN)):
                        _remove(note)
        return _records(folder, _DEATH)

    def _note_death(self, sha256: str, reason: str) -> None:
        log.error("artifact_ended_a_process", sha256=sha256, reason=reason)
        self._write(sha256, f"{_DEATH}{time.time_ns()}", reason)

    def _write(self, sha256: str, name: str, text: str) -> None:
        folder = self._folder / sha256
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        except OSError as error:
            log.warning("record_not_kept", sha256=sha256, record=name, error=str(error))

    def _begin(self, sha256: str) -> "_Note | None":
        try:
            return _Note(self._folder / sha256)
        except OSError as error:
            log.warning("load_not_noted", sha256=sha256, error=str(error))
            return None


class _Note:
    """A file that this process holds locked; under its name only once it is."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = uuid4().hex
        self.path = folder / f"{_LOADING}{name}"
        draft = folder / f".{name}"
        self._file = draft.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        draft.rename(self.path)

    def close(self) -> None:
        """Let go of it."""
        _remove(self.path)
        self._file.close()


def _proof(revision: Revision) -> str:
    """Name what a trial proves: the artifact with the request that revisions like this one are warmed up with."""
    asked = revision.model_dump_json(include={"format", "signature", "example"})
    return f"{_PROVEN}{hashlib.sha256(asked.encode()).hexdigest()[:16]}"


def _records(folder: Path, kind: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(kind))
    except OSError:
        return []


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes of the node from counting the same deaths."""
    try:
        file = (folder / ".lock").open("w")
    except OSError as error:
        log.warning("records_not_locked", folder=str(folder), error=str(error))
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_abandoned(note: Path) -> bool:
    """Tell whether the process that made the note has died; the kernel unlocks what a dead process held."""
    try:
        with note.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _seconds(death: Path) -> float:
    """Return when the process ended."""
    return int(death.name.removeprefix(_DEATH)) / 1e9


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("record_not_removed", record=str(path), error=str(error))


def _environment() -> dict[str, str]:
    """Return what a trial needs to find its modules, and nothing else that this process knows."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


__all__ = ["Quarantine"]
