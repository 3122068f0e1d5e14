"""Pins: whoever serves or needs a version pins it, and the registry then refuses to delete it."""

from collections.abc import Sequence

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col, select

from ..kernel.clock import utc_now
from ..kernel.ids import new_id
from .errors import VersionNotFound, VersionPinned
from .models import ModelVersion, Pin


def pin(session: Session, *, version_id: str, owner: str) -> None:
    """Keep a version from being deleted; pinning twice is pinning once.

    Args:
        session: The transaction of the change that needs the version.
        version_id: Which version.
        owner: Who needs it, in words for the user who wants to delete it, such as ``deployment digits``.

    Raises:
        VersionNotFound: If there is no such version.
    """
    # The lock makes a deletion wait for this transaction, and this one for a deletion.
    statement = select(ModelVersion).where(ModelVersion.id == version_id).with_for_update(read=True, key_share=True)
    version = session.exec(statement).one_or_none()
    if version is None:
        raise VersionNotFound(f"There is no model version {version_id}.")
    row = {"id": new_id("pin"), "created_at": utc_now(), "project_id": version.project_id}
    session.execute(insert(Pin).values(**row, version_id=version_id, owner=owner).on_conflict_do_nothing())


def unpin(session: Session, *, version_id: str, owner: str) -> None:
    """Take the owner's pin away; one that is not there is no error."""
    session.execute(delete(Pin).where(col(Pin.version_id) == version_id, col(Pin.owner) == owner))


def owners(session: Session, version_id: str) -> list[str]:
    """Return who pins a version, by name."""
    return list(session.exec(select(Pin.owner).where(Pin.version_id == version_id).order_by(Pin.owner)))


def check_unpinned(session: Session, version_ids: Sequence[str]) -> None:
    """Refuse when one of the versions is pinned.

    Raises:
        VersionPinned: Naming every owner.
    """
    statement = (
        select(Pin.owner, ModelVersion.version)
        .join(ModelVersion, col(ModelVersion.id) == col(Pin.version_id))
        .where(col(Pin.version_id).in_(version_ids))
        .order_by(col(ModelVersion.version), Pin.owner)
    )
    held = session.exec(statement).all()
    if held:
        words = ", ".join(f"version {number} by {owner}" for owner, number in held)
        raise VersionPinned(
            f"Still needed: {words}. Remove or change that first.",
            details={"owners": sorted({owner for owner, _ in held})},
        )
