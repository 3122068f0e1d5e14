"""What is forgotten of logins and invitations that ended long ago, a bounded number of rows at a time."""

from datetime import datetime

from sqlalchemy import and_, delete, exists, or_, select
from sqlalchemy.orm import Mapped
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col

from ..kernel.db import Table
from .models import AuthSession, Invitation, RefreshToken

__all__ = ["forget_ended"]


def forget_ended(session: Session, *, before: datetime, at_most: int) -> bool:
    """Delete what ended before a moment: refresh tokens, sessions without any, used and expired invitations.

    The moment must be so long ago that no access token of a session that ended then lives: a session that is forgotten
    is no longer told to the model servers as revoked.

    Args:
        session: The session.
        before: What ended later stays.
        at_most: Rows to delete of each kind.

    Returns:
        Whether there may be more.
    """
    tokens = _delete(session, RefreshToken, col(RefreshToken.expires_at) < before, at_most)
    has_token = exists().where(col(RefreshToken.session_id) == col(AuthSession.id))
    expired = and_(col(AuthSession.created_at) < before, ~has_token)
    sessions = _delete(session, AuthSession, or_(col(AuthSession.revoked_at) < before, expired), at_most)
    ended = or_(col(Invitation.used_at) < before, col(Invitation.expires_at) < before)
    invitations = _delete(session, Invitation, ended, at_most)
    return max(tokens, sessions, invitations) == at_most


def _delete(session: Session, table: type[Table], ended: ColumnElement[bool], at_most: int) -> int:
    id_: Mapped[str] = col(table.id)
    some = select(id_).where(ended).limit(at_most).with_for_update(skip_locked=True)
    return len(session.execute(delete(table).where(id_.in_(some)).returning(id_)).all())
