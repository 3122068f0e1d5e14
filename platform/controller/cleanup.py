"""Removes what nobody will read again: answered idempotency keys, delivered events, leases of dead clusters."""

from datetime import timedelta

from sqlalchemy import delete
from sqlmodel import col

from ..kernel.clock import Clock, utc_now
from ..kernel.events import OutboxEvent
from ..kernel.idempotency import IdempotencyRecord
from ..kernel.resources import Resources
from .models import Lease

KEPT = timedelta(hours=24)


def clean(resources: Resources, now: Clock = utc_now) -> None:
    """Delete idempotency records, delivered events and leases that are done with for a day."""
    before = now() - KEPT
    with resources.database.session() as session:
        session.execute(delete(IdempotencyRecord).where(col(IdempotencyRecord.created_at) < before))
        session.execute(delete(OutboxEvent).where(col(OutboxEvent.delivered_at) < before))
        # Of clusters that are gone; with the lease goes what else is kept for its cluster.
        session.execute(delete(Lease).where(col(Lease.expires_at) < before))
