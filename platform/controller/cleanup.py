"""Removes what nobody will read again: answers to idempotency keys, delivered events, old leases, old logins."""

from datetime import timedelta

import structlog
from sqlalchemy import delete, text
from sqlmodel import Session, col

from ..auth.retention import forget_ended
from ..data import service as data
from ..deployments import service as deployments
from ..kernel.clock import Clock, utc_now
from ..kernel.envelope import MasterKeys
from ..kernel.events import OutboxEvent
from ..kernel.idempotency import IdempotencyRecord
from ..kernel.resources import Resources
from ..projects.blobs import collect
from ..projects.secrets import are_kept, rewrap_secrets
from ..registry import versions
from ..train import submissions
from .models import Lease

log = structlog.get_logger("raymill.controller")

KEPT = timedelta(hours=24)
# Rows that one transaction deletes, and transactions of one cleaning; what is left waits for the next.
_BATCH, _BATCHES = 1_000, 100


def clean(resources: Resources, now: Clock = utc_now) -> None:
    """Delete idempotency records, delivered events and leases that are done with for a day."""
    before = now() - KEPT
    with resources.database.session() as session:
        session.execute(delete(IdempotencyRecord).where(col(IdempotencyRecord.created_at) < before))
        session.execute(delete(OutboxEvent).where(col(OutboxEvent.delivered_at) < before))
        # Of clusters that are gone; with the lease goes what else is kept for its cluster.
        session.execute(delete(Lease).where(col(Lease.expires_at) < before))


def forget_logins(resources: Resources, now: Clock = utc_now, *, batch: int = _BATCH) -> None:
    """Delete sessions and invitations that ended as long ago as the settings say."""
    auth = resources.settings.auth
    # A revoked session is told to the model servers for as long as its access token lives.
    before = now() - timedelta(seconds=max(auth.keep_ended_s, 2 * auth.access_token_ttl_s))
    for _ in range(_BATCHES):
        with resources.database.session() as session:
            if not forget_ended(session, before=before, at_most=batch):
                return


def forget_audit(resources: Resources, *, batch: int = 10 * _BATCH) -> None:
    """Remove the rows of the audit log that are older than the settings say, which the database sees to."""
    if resources.settings.controller.keep_audit_days is None:
        return
    for _ in range(_BATCHES):
        with resources.database.session() as session:
            gone: int = session.execute(text("SELECT audit_forget(:at_most)"), {"at_most": batch}).scalar_one()
        if gone < batch:
            return


def collect_blobs(resources: Resources, now: Clock = utc_now) -> None:
    """Remove from the object store what no row refers to any more, and give its bytes back to its project.

    Raises:
        StoreUnavailable: If the object store does not answer; the rest is removed the next time.
    """
    grace = timedelta(seconds=resources.settings.controller.collect_after_s)
    if removed := collect(resources, now=now(), grace=grace, in_use=_in_use):
        log.info("blobs_collected", removed=removed)


def _in_use(session: Session, uris: list[str]) -> set[str]:
    askers = (data.uris_in_use, versions.uris_in_use, deployments.uris_in_use, submissions.uris_in_use)
    return {uri for ask in askers for uri in ask(session, uris)}


def rewrap(resources: Resources) -> None:
    """Wrap the secrets whose master key was replaced under the current one.

    Raises:
        MasterKeyMissing: If a key that is still needed was removed.
    """
    with resources.database.session() as session:
        if not are_kept(session):
            return  # a platform that keeps no secrets needs no master key
    masters, rewrapped = MasterKeys.load(resources.settings.keys_dir), 1
    while rewrapped:
        with resources.database.session() as session:
            rewrapped = rewrap_secrets(session, masters)
