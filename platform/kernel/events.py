"""Domain events by a transactional outbox.

A service records an event in the same transaction as the change. After the commit the process that made it hands the
event to the subscribed handlers, before it answers its client; what fails or dies in between is delivered again by the
controller's sweep. Handlers are therefore idempotent, and open their own transactions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol, TypeVar

import structlog
from sqlalchemy import update
from sqlmodel import Session, col, select

from .clock import utc_now
from .db import Table, document, optional_moment
from .ids import new_id

log = structlog.get_logger(__name__)


class Event(Protocol):
    """A frozen dataclass that says what happened, in the past tense."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Happened = TypeVar("Happened", bound=Event)
Handler = Callable[[Any], None]


class OutboxEvent(Table, table=True):
    """An event that was committed with its change and may still have to be delivered."""

    __tablename__ = "outbox"

    kind: str
    body: dict[str, Any] = document()
    delivered_at: datetime | None = optional_moment()


class EventBus:
    """Which handlers follow which events in this process."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = defaultdict(list)
        self._classes: dict[str, type[Any]] = {}

    def subscribe(self, event: type[Happened], handler: Callable[[Happened], None]) -> None:
        """Call ``handler`` with every event of this class."""
        self._classes[event.__name__] = event
        self._handlers[event.__name__].append(handler)

    def deliver(self, rows: Iterable[OutboxEvent]) -> list[str]:
        """Hand committed events to their handlers and return the ids of those that all handlers took."""
        return [row.id for row in rows if self._deliver(row)]

    def _deliver(self, row: OutboxEvent) -> bool:
        try:
            for handler in self._handlers[row.kind]:
                handler(self._classes[row.kind](**row.body))
        except Exception:
            log.exception("event_not_delivered", kind=row.kind, event_id=row.id)
            return False
        return True


def record(session: Session, event: Event) -> None:
    """Write the event into the outbox of this transaction."""
    row = OutboxEvent(id=new_id("evt"), kind=type(event).__name__, body=asdict(event))
    session.add(row)
    session.info.setdefault("recorded", []).append(row)


def recorded(session: Session) -> list[OutboxEvent]:
    """Return the events that were recorded in this session."""
    rows: list[OutboxEvent] = session.info.get("recorded", [])
    return rows


def mark_delivered(session: Session, ids: list[str]) -> None:
    """Note that the sweep need not deliver these events again."""
    session.execute(update(OutboxEvent).where(col(OutboxEvent.id).in_(ids)).values(delivered_at=utc_now()))


def undelivered(session: Session, *, older_than_s: float = 0.5, limit: int = 100) -> list[OutboxEvent]:
    """Return the oldest events that no process has delivered, oldest first."""
    before = utc_now() - timedelta(seconds=older_than_s)
    pending = select(OutboxEvent).where(col(OutboxEvent.delivered_at).is_(None), col(OutboxEvent.created_at) < before)
    return list(session.exec(pending.order_by(col(OutboxEvent.id)).limit(limit)))
