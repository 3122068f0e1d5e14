"""On whose behalf this code runs: what the audit log says beside each change.

A request puts one ``Acting`` into its context, authentication fills it in, and every transaction that changes something
tells PostgreSQL before its first change. Whatever has no request is the platform itself, and is named by the
``application_name`` of its connection.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event

from .telemetry import current_request_id

_acting: ContextVar["Acting | None"] = ContextVar("acting", default=None)
_DECLARED = "raymill.acting"


@dataclass(frozen=True)
class Subject:
    """What a request is about, where its path does not say so."""

    type: str
    id: str
    name: str | None = None


@dataclass
class Acting:
    """Who does what, by which credential, from where; ``refusal`` is why the request was refused."""

    request_id: str
    address: str | None = None
    name_action: Callable[[], str | None] = lambda: None
    actor_id: str | None = None
    credential: str | None = None
    credential_id: str | None = None
    project_id: str | None = None
    subject: Subject | None = None
    refusal: str | None = None
    is_system: bool = False

    def declaration(self) -> str:
        """Return what PostgreSQL is told."""
        said = {
            "request_id": self.request_id,
            "address": self.address,
            "action": self.name_action(),
            "actor_id": self.actor_id,
            "credential": self.credential,
            "credential_id": self.credential_id,
            "is_system": self.is_system or None,
        }
        return json.dumps({name: value for name, value in said.items() if value is not None})


def current() -> Acting | None:
    """Return on whose behalf this code runs; None outside of a request."""
    return _acting.get()


def identify(actor_id: str, *, credential: str | None = None, credential_id: str | None = None) -> None:
    """Note who the request has turned out to come from, and by which credential."""
    if (acting := _acting.get()) is not None:
        acting.actor_id, acting.credential, acting.credential_id = actor_id, credential, credential_id


def concern(project_id: str) -> None:
    """Note which project the request is about."""
    if (acting := _acting.get()) is not None:
        acting.project_id = project_id


def about(subject: Subject) -> None:
    """Note what the request is about."""
    if (acting := _acting.get()) is not None:
        acting.subject = subject


def refuse(reason: str) -> None:
    """Note why the request is refused."""
    if (acting := _acting.get()) is not None:
        acting.refusal = reason


@contextmanager
def on_behalf(acting: Acting) -> Iterator[Acting]:
    """Act on somebody's behalf inside the block, threads that it starts with its context included."""
    token = _acting.set(acting)
    try:
        yield acting
    finally:
        _acting.reset(token)


@contextmanager
def as_system() -> Iterator[None]:
    """Act as the platform itself inside the block; the request that it follows from stays named."""
    with on_behalf(Acting(request_id=current_request_id(), is_system=True)):
        yield


def declare_changes(engine: Engine) -> None:
    """Let each transaction of the engine say on whose behalf it is, before its first change."""
    event.listen(engine, "begin", _forget)
    # What was set within a savepoint goes with it.
    event.listen(engine, "rollback_savepoint", _forget)
    event.listen(engine, "before_cursor_execute", _declare)


def _forget(connection: Connection, *_: Any) -> None:
    connection.info.pop(_DECLARED, None)


def _declare(connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
    acting = _acting.get()
    if acting is None or context is None or not (context.isinsert or context.isupdate or context.isdelete):
        return
    declaration = acting.declaration()
    if connection.info.get(_DECLARED) != declaration:
        cursor.execute("SELECT set_config('raymill.acting', %s, true)", (declaration,))
        connection.info[_DECLARED] = declaration


__all__ = [
    "Acting",
    "Subject",
    "about",
    "as_system",
    "concern",
    "current",
    "declare_changes",
    "identify",
    "on_behalf",
    "refuse",
]
