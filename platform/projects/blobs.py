"""Files of projects on their way into the object store, counted before they are stored, and collected afterwards.

A blob's claim is renewed before its file is stored. So a blob that was found unused long ago and to which no row refers
is nobody's, and while its claim is locked nobody can begin to rely on it.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import not_, update
from sqlmodel import Session, col, select

from ..kernel.resources import Resources
from ..kernel.storage import Blob
from . import quotas
from .models import QuotaClaim
from .quotas import Quota

_BATCH = 500
_IS_BLOB = col(QuotaClaim.quota) == Quota.STORED_BYTES

InUse = Callable[[Session, list[str]], set[str]]


def keep_file(resources: Resources, *, project_id: str, path: Path, below: str = "") -> Blob:
    """Store a local file for a project; the caller's row must refer to it within the time of grace.

    Args:
        resources: The open connections.
        project_id: Whose file it is.
        path: Where it lies.
        below: A place of its own within the project, for a blob that must not be shared.

    Raises:
        QuotaExceeded: If the project may not store that much more.
    """
    blob = resources.store.describe_file(f"{project_id}/{below}".rstrip("/"), path)
    with resources.session() as session:
        quotas.reserve(
            session,
            defaults=resources.settings.quotas,
            project_id=project_id,
            owner=blob.uri,
            amounts={Quota.STORED_BYTES: blob.size_bytes},
        )
    resources.store.put_blob(blob, path)
    return blob


def collect(resources: Resources, *, now: datetime, grace: timedelta, in_use: InUse) -> int:
    """Remove the blobs that nothing has used for a time, and return how many that were.

    Args:
        resources: The open connections.
        now: The moment.
        grace: How long a blob stays after the collector first found it unused; a backup may still name it.
        in_use: Tells which of some uris a row refers to.
    """
    return sum(
        _remove(resources, uri, now - grace, in_use)
        for batch in _batches(resources)
        for uri in _long_unused(resources, batch, now, now - grace, in_use)
    )


def _batches(resources: Resources) -> Iterator[list[str]]:
    last = ""
    while True:
        with resources.session() as session:
            page = select(QuotaClaim.owner).where(_IS_BLOB, QuotaClaim.owner > last)
            batch = list(session.exec(page.order_by(col(QuotaClaim.owner)).limit(_BATCH)))
        if not batch:
            return
        last = batch[-1]
        yield batch


def _long_unused(resources: Resources, batch: list[str], now: datetime, before: datetime, in_use: InUse) -> list[str]:
    """Note which blobs of a batch are unused since when, and return those that are so for long."""
    with resources.session() as session:
        used = in_use(session, batch)
        _mark(session, used, None)
        _mark(session, set(batch) - used, now)
        old = select(QuotaClaim.owner).where(_IS_BLOB, col(QuotaClaim.owner).in_(batch))
        return list(session.exec(old.where(col(QuotaClaim.unused_since) < before)))


def _mark(session: Session, uris: set[str], since: datetime | None) -> None:
    unmarked = col(QuotaClaim.unused_since).is_(None)
    claims = update(QuotaClaim).where(_IS_BLOB, col(QuotaClaim.owner).in_(uris))
    session.execute(claims.where(unmarked if since else not_(unmarked)).values(unused_since=since))


def _remove(resources: Resources, uri: str, before: datetime, in_use: InUse) -> bool:
    with resources.session() as session:
        old = select(QuotaClaim).where(_IS_BLOB, QuotaClaim.owner == uri, col(QuotaClaim.unused_since) < before)
        claim = session.exec(old.with_for_update(skip_locked=True)).one_or_none()
        if claim is None or in_use(session, [uri]):
            return False
        # Within the transaction, for the lock is what holds back an upload of the same content.
        resources.store.delete(uri)
        session.delete(claim)
        return True
