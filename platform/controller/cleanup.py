"""Removes what nobody will read again: answered idempotency keys and delivered events."""

from datetime import timedelta

from sqlalchemy import delete
from sqlmodel import col

from ..kernel.clock import Clock, utc_now
from ..kernel.events import OutboxEvent
from ..kernel.idempotency import IdempotencyRecord
from ..kernel.resources import Resources

KEPT = timedelta(hours=24)


def clean(resources: Resources, now: Clock = utc_now) -> None:
    """Delete idempotency records and delivered events that are older than a day."""
    before = now() - KEPT
    with resources.database.session() as session:
        session.execute(delete(IdempotencyRecord).where(col(IdempotencyRecord.created_at) < before))
        session.execute(delete(OutboxEvent).where(col(OutboxEvent.delivered_at) < before))
