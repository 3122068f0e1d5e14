"""What administrators do to accounts: list, role, disable, delete; an administrator always remains."""

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from ..kernel.clock import utc_now
from ..kernel.events import record
from ..kernel.pagination import Page, PageQuery, paginate
from . import keys, service
from .errors import AccountNotFound, LastAdmin, ServiceAccountHasNoRole
from .events import AccountChanged
from .models import User
from .permissions import GlobalRole

__all__ = [
    "User",
    "assign_role",
    "delete_user",
    "disable_user",
    "enable_user",
    "get_user",
    "has_admin",
    "list_users",
    "living_admins",
]


def list_users(session: Session, query: PageQuery) -> Page[User]:
    """Return the accounts, service accounts among them, newest first."""
    return paginate(session, User, query, col(User.deleted_at).is_(None))


def get_user(session: Session, user_id: str) -> User:
    """Return an account.

    Raises:
        AccountNotFound: If there is none.
    """
    user = session.get(User, user_id)
    if user is None or user.deleted_at is not None:
        raise AccountNotFound(user_id)
    return user


def has_admin(session: Session) -> bool:
    """Say whether anybody administers the platform."""
    return session.exec(_living_admins().limit(1)).first() is not None


def living_admins(session: Session) -> list[str]:
    """Return the ids of the accounts that administer the platform."""
    return list(session.exec(_living_admins().order_by(User.id)))


def assign_role(session: Session, user_id: str, role: GlobalRole) -> User:
    """Give an account another global role.

    Raises:
        AccountNotFound: If there is none.
        ServiceAccountHasNoRole: If it is no person's.
        LastAdmin: If it is the only administrator's, and would not be any more.
    """
    user = get_user(session, user_id)
    if user.project_id is not None:
        raise ServiceAccountHasNoRole
    if role is not GlobalRole.ADMIN:
        _keep_an_admin(session, user)
    user.role = role
    return _changed(session, user)


def disable_user(session: Session, user_id: str) -> User:
    """Lock an account out: its sessions die and its keys work no more, on any plane.

    Raises:
        AccountNotFound: If there is none.
        LastAdmin: If it is the only administrator's.
    """
    user = get_user(session, user_id)
    _keep_an_admin(session, user)
    user.disabled_at = user.disabled_at or utc_now()
    service.revoke_sessions(session, user.id)
    return _changed(session, user)


def enable_user(session: Session, user_id: str) -> User:
    """Let an account in again; its keys work again, its sessions stay dead.

    Raises:
        AccountNotFound: If there is none.
    """
    user = get_user(session, user_id)
    user.disabled_at = None
    return _changed(session, user)


def delete_user(session: Session, user_id: str) -> None:
    """Lock an account out for good and forget who it was; what it made keeps its id.

    Raises:
        AccountNotFound: If there is none.
        LastAdmin: If it is the only administrator's.
    """
    user = disable_user(session, user_id)
    keys.revoke_keys_of(session, user.id)
    user.deleted_at = utc_now()
    user.email, user.name, user.preferences = f"{user.id}@deleted.invalid", "Deleted account", {}
    user.password_hash = None
    session.add(user)


def _changed(session: Session, user: User) -> User:
    session.add(user)
    session.flush()
    record(session, AccountChanged(user_id=user.id))
    return user


def _keep_an_admin(session: Session, leaving: User) -> None:
    """Refuse to go on when only this administrator is left; the rows are locked, so that two cannot leave at once."""
    if list(session.exec(_living_admins().order_by(User.id).with_for_update(key_share=True))) == [leaving.id]:
        raise LastAdmin


def _living_admins() -> SelectOfScalar[str]:
    return select(User.id).where(User.role == GlobalRole.ADMIN, col(User.disabled_at).is_(None))
