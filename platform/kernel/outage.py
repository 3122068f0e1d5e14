"""Notices within about a second that PostgreSQL is gone, refuses or hangs, and lets nobody wait for it.

A server that hangs keeps its connections open and acknowledges what is sent, so neither TCP nor a statement timeout on
its side ends the wait. A thread with a connection of its own asks it four times a second; when no answer comes, every
connection of the process is cut, which wakes the threads that wait on them, and new sessions are refused at once until
the server answers again. A connection that is still being made cannot be cut; its maker stops waiting for it.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from threading import Event, Lock, Thread
from typing import Any

import psycopg
import structlog
from sqlalchemy import Engine, event

from .errors import ExternalServiceError

log = structlog.get_logger(__name__)

EVERY_S = 0.25
_DIALERS = 16


class DatabaseUnavailable(ExternalServiceError):
    """Raised when PostgreSQL does not answer."""

    def __init__(self) -> None:
        super().__init__("The database does not answer; try again in a moment.", retry_after_s=2)


class OutageWatch:
    """The thread that asks, and the sockets that it cuts."""

    def __init__(self, engine: Engine, *, connect_s: float, patience_s: float, every_s: float = EVERY_S) -> None:
        self.is_away = False
        self._engine = engine
        self._connect_s = connect_s
        self._every_s = every_s
        self._patience_s = patience_s
        self._connection: psycopg.Connection[Any] | None = None
        self._sockets: dict[int, socket.socket] = {}
        self._lock = Lock()
        self._stopping = Event()
        self._thread: Thread | None = None
        self._dialers = ThreadPoolExecutor(_DIALERS, thread_name_prefix="database-dial")
        event.listen(engine, "do_connect", self._dial)
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "close", self._closed)

    def start(self) -> None:
        """Begin to watch, unless that was done before."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = Thread(target=self._run, name="database-outage-watch", daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2 * self._patience_s)
        self._dialers.shutdown(wait=False)
        self._hang_up()

    def refuse(self) -> None:
        """Let nobody through during an outage.

        Raises:
            DatabaseUnavailable: If there is one.
        """
        if self.is_away:
            raise DatabaseUnavailable

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                is_away = not self._answers()
            except RuntimeError:
                # No thread can be started to dial: there are too many, or the interpreter ends. It is asked again.
                continue
            if is_away and not self.is_away:
                log.warning("database_away")
                self.is_away = True
                self._cut()
            elif self.is_away and not is_away:
                log.info("database_back")
                self.is_away = False

    def _answers(self) -> bool:
        try:
            if self._connection is None:
                words, options = self._engine.dialect.create_connect_args(self._engine.url)
                self._connection = self._connect(words, options, self._patience_s)
            answered = _answers_within(self._connection.pgconn, self._patience_s)
        except psycopg.Error as error:
            self._hang_up()
            return "FATAL" in str(error)  # a server that says no is there; who asks it hears that at once
        except DatabaseUnavailable:
            return False
        if not answered:
            self._hang_up()
        return answered

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _dial(self, dialect: object, record: object, words: list[Any], options: dict[str, Any]) -> Any:
        self.refuse()
        return self._connect(words, options, self._connect_s)

    def _connect(self, words: Sequence[Any], options: Mapping[str, Any], seconds: float) -> psycopg.Connection[Any]:
        # The driver counts in whole seconds, two at least: that ends the attempts that nobody waits for any more.
        given = {"connect_timeout": max(2, ceil(seconds)), **options}
        attempt = self._dialers.submit(psycopg.connect, *words, **given)
        try:
            return attempt.result(seconds)
        except TimeoutError:
            attempt.add_done_callback(_close_late)
            raise DatabaseUnavailable from None

    def _cut(self) -> None:
        with self._lock:
            for each in self._sockets.values():
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _opened(self, connection: psycopg.Connection[Any], record: object) -> None:
        # A descriptor of our own, so that what is cut is surely this connection and not its successor.
        handle = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            self._sockets[id(connection)] = handle

    def _closed(self, connection: psycopg.Connection[Any], record: object) -> None:
        with self._lock:
            handle = self._sockets.pop(id(connection), None)
        if handle is not None:
            handle.close()


def _close_late(attempt: "Future[psycopg.Connection[Any]]") -> None:
    if attempt.exception() is None:
        attempt.result().close()


def _answers_within(
    connection: "psycopg.pq.abc.PGconn", seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> bool:
    """Send an empty question and tell whether its answer came in time.

    Raises:
        psycopg.Error: If the connection is broken.
    """
    deadline = monotonic() + seconds
    poll = select.poll()
    poll.register(connection.socket, select.POLLIN)
    connection.send_query(b"")
    while True:
        while connection.is_busy():
            # Asked even after the deadline: a process that was suspended itself finds the answer waiting.
            if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
                return False
            connection.consume_input()
        if connection.get_result() is None:
            return True


__all__ = ["DatabaseUnavailable", "OutageWatch"]
