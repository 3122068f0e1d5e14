"""What the control plane refused, for the audit log: noted while the answer leaves, written by a thread of its own.

From one address the first refusals of a minute have a row each, and one row counts the others. What cannot be written,
because the database is away or too much waits, is counted by a metric and said in the log.
"""

from queue import Empty, Full, Queue
from threading import Lock, Thread

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.audit import Refusal, record_refusals
from ..kernel.acting import Acting, Subject, on_behalf
from ..kernel.db import Database
from ..kernel.limits import network_of
from ..kernel.telemetry import current_request_id
from .metrics import RequestMetrics
from .refusal_tally import RefusalTally

log = structlog.get_logger("raymill.gateway")

WAITING = 1000
_ANSWERS = frozenset({"http.response.start", "websocket.http.response.start"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_ALWAYS = frozenset({401, 403})
_OF_CHANGES = frozenset({404, 409, 429})


class Refusals:
    """The queue of what was refused, and the thread that writes it."""

    def __init__(self, database: Database, metrics: RequestMetrics, tally: RefusalTally | None = None) -> None:
        self._database = database
        self._metrics = metrics
        self._tally = tally or RefusalTally()
        self._lock = Lock()
        self._queue: Queue[Refusal | None] = Queue(WAITING)
        self._thread: Thread | None = None

    def note(self, refusal: Refusal) -> None:
        """Let a refusal be written; never waits."""
        with self._lock:
            waiting = self._close_minute()
            if self._tally.admits(network_of(refusal.address)):
                waiting.append(refusal)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="audit-refusals", daemon=True)
                self._thread.start()
        for one in waiting:
            try:
                self._queue.put_nowait(one)
            except Full:
                self._lose(1, "too many wait")

    def close(self) -> None:
        """Write what waits and what was counted, and end the thread until there is something to write again."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            taken = self._take()
            is_open = None not in taken
            with self._lock:
                counted = self._close_minute(early=not is_open)
            self._write([*filter(None, taken), *counted])

    def _take(self) -> list[Refusal | None]:
        """Wait for what is to be written, or for the end of the minute."""
        taken: list[Refusal | None] = []
        try:
            taken.append(self._queue.get(timeout=self._tally.remaining_s() + 1))
            while taken[-1] is not None:
                taken.append(self._queue.get_nowait())
        except Empty:
            pass
        return taken

    def _close_minute(self, *, early: bool = False) -> list[Refusal]:
        counted = self._tally.close_minute(early=early)
        return [Refusal.of_many(address, count) for address, count in counted.items()]

    def _write(self, refusals: list[Refusal]) -> None:
        if not refusals:
            return
        try:
            with self._database.session() as session:
                record_refusals(session, refusals)
        except Exception as error:
            self._lose(len(refusals), str(error))

    def _lose(self, count: int, reason: str) -> None:
        self._metrics.lose_refusals(count)
        log.warning("refusals_not_audited", count=count, reason=reason)


class Audited:
    """Says on whose behalf each request is, and notes those that are refused; a plain ASGI layer."""

    def __init__(self, app: ASGIApp, refusals: Refusals) -> None:
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] in _ANSWERS:
                status = message["status"]
                # To open a websocket is to read.
                if _is_refusal(scope.get("method", "GET"), status):
                    self._refusals.note(_refusal(scope, acting, status))
            await send(message)

        with on_behalf(_acting(scope)) as acting:
            await self._app(scope, receive, send_and_note)


def _is_refusal(method: str, status: int) -> bool:
    return status in _ALWAYS or (status in _OF_CHANGES and method not in _READING)


def _acting(scope: Scope) -> Acting:
    client = scope.get("client")
    return Acting(
        request_id=current_request_id(),
        address=client[0] if client else "unknown",
        name_action=lambda: getattr(scope.get("route"), "name", None),
    )


def _refusal(scope: Scope, acting: Acting, status: int) -> Refusal:
    subject = acting.subject or _named(scope)
    return Refusal(
        action=acting.name_action(),
        actor_id=acting.actor_id or "anonymous",
        credential=acting.credential,
        credential_id=acting.credential_id,
        address=acting.address or "unknown",
        request_id=acting.request_id,
        object_type=subject.type if subject else None,
        object_id=subject.id if subject else None,
        object_name=subject.name if subject else None,
        project_id=acting.project_id,
        status=status,
        message=acting.refusal or "",
    )


def _named(scope: Scope) -> Subject | None:
    """Return the innermost thing that the path names."""
    names = scope.get("path_params") or {}
    for name, value in reversed(names.items()):
        return Subject(type=name.removesuffix("_id"), id=str(value))
    return None


__all__ = ["Audited", "Refusals"]
