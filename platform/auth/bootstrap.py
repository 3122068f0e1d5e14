"""The administrator's account: made at the first start, and given back on request."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlmodel import Session

from ..kernel.db import Database
from ..kernel.events import record
from ..kernel.settings import Settings
from . import service, users
from .errors import EmailTaken
from .events import AccountChanged
from .permissions import GlobalRole
from .schemas import UserRegistration

ADMIN_EMAIL = "admin@raymill.dev"


def ensure_admin(settings: Settings) -> str | None:
    """Make the administrator's account unless there is one, and return its password the one time it is known."""
    password = secrets.token_urlsafe(18)
    try:
        with _session(settings) as session:
            if users.has_admin(session):
                return None
            _add_admin(session, password, settings)
    except EmailTaken:  # by another process that started at the same moment
        return None
    return password


def reset_admin_password(settings: Settings) -> str:
    """Give the administrator's account a new password, which ends its sessions, and return it.

    Whatever became of the account, it is an administrator's again afterwards; it is made if need be.

    Raises:
        DatabaseUnavailable: If PostgreSQL cannot be reached.
    """
    password = secrets.token_urlsafe(18)
    with _session(settings) as session:
        user = service.find_user(session, ADMIN_EMAIL)
        if user is None:
            _add_admin(session, password, settings)
        else:
            service.set_password(session, user, password, settings=settings.auth)
            user.role, user.disabled_at = GlobalRole.ADMIN, None
            record(session, AccountChanged(user_id=user.id))
    return password


def _add_admin(session: Session, password: str, settings: Settings) -> None:
    data = UserRegistration(email=ADMIN_EMAIL, name="Administrator", password=password)
    service.add_user(session, data=data, settings=settings.auth, role=GlobalRole.ADMIN)


@contextmanager
def _session(settings: Settings) -> Iterator[Session]:
    with closing(Database(settings.database)) as database, database.session() as session:
        yield session
