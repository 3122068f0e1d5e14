"""Invitations: a token that is shown once and lets one address register once."""

from datetime import timedelta

from sqlalchemy import update
from sqlmodel import Session, col

from ..kernel.clock import utc_now
from ..kernel.ids import new_id
from ..kernel.pagination import Page, PageQuery, paginate
from ..kernel.security import hash_secret, new_secret
from ..kernel.settings import AuthSettings
from . import service
from .errors import EmailTaken, InvitationNotFound, InvitationRefused
from .models import Invitation
from .permissions import GlobalRole
from .schemas import InvitationCreate


def invite(
    session: Session, *, data: InvitationCreate, invited_by: str, settings: AuthSettings
) -> tuple[Invitation, str]:
    """Make an invitation and return it with its token, which is nowhere stored.

    Raises:
        EmailTaken: If the address has an account.
    """
    if service.find_user(session, data.email) is not None:
        raise EmailTaken(f"The email {data.email} already has an account.")
    secret = new_secret("inv")
    invitation = Invitation(
        id=new_id("inv"),
        email=service.normalised(data.email),
        role=data.role,
        invited_by=invited_by,
        secret_sha256=hash_secret(secret),
        expires_at=utc_now() + timedelta(seconds=settings.invitation_ttl_s),
    )
    session.add(invitation)
    session.flush()
    return invitation, secret


def list_invitations(session: Session, query: PageQuery) -> Page[Invitation]:
    """Return the invitations that were not used, newest first."""
    return paginate(session, Invitation, query, col(Invitation.used_at).is_(None))


def withdraw(session: Session, invitation_id: str) -> None:
    """Remove an invitation that was not used.

    Raises:
        InvitationNotFound: If there is none.
    """
    invitation = session.get(Invitation, invitation_id, with_for_update=True)
    if invitation is None or invitation.used_at is not None:
        raise InvitationNotFound(invitation_id)
    session.delete(invitation)


def accept(session: Session, *, secret: str, email: str) -> GlobalRole:
    """Use an invitation up and return the role that it gives; what is refused later gives it back.

    Raises:
        InvitationRefused: If it is unknown, used, expired, or another address's.
    """
    waiting = (
        col(Invitation.secret_sha256) == hash_secret(secret),
        col(Invitation.email) == service.normalised(email),
        col(Invitation.used_at).is_(None),
        col(Invitation.expires_at) > utc_now(),
    )
    used = update(Invitation).where(*waiting).values(used_at=utc_now()).returning(col(Invitation.role))
    role = session.execute(used).scalar_one_or_none()
    if role is None:
        raise InvitationRefused
    return GlobalRole(role)
