"""The administrator's account: made at the first start, and given a new password on request."""

import secrets

from ..kernel.db import Database
from ..kernel.settings import Settings
from . import service
from .errors import EmailTaken
from .permissions import GlobalRole
from .schemas import UserRegistration

ADMIN_EMAIL = "admin@raymill.dev"


def ensure_admin(settings: Settings) -> str | None:
    """Make the administrator's account unless it exists, and return its password the one time it is known."""
    database = Database(settings.database)
    password = secrets.token_urlsafe(18)
    data = UserRegistration(email=ADMIN_EMAIL, name="Administrator", password=password)
    try:
        with database.session() as session:
            if service.find_user(session, ADMIN_EMAIL) is not None:
                return None
            service.add_user(session, data=data, settings=settings.auth, role=GlobalRole.ADMIN)
    except EmailTaken:  # by another process that started at the same moment
        return None
    else:
        return password
    finally:
        database.close()


def reset_admin_password(settings: Settings) -> str:
    """Give the administrator a new password, which ends all its sessions, and return it; make the account if need be.

    Raises:
        DatabaseUnavailable: If PostgreSQL cannot be reached.
    """
    if made := ensure_admin(settings):
        return made
    database = Database(settings.database)
    password = secrets.token_urlsafe(18)
    try:
        with database.session() as session:
            user = service.find_user(session, ADMIN_EMAIL)
            if user is not None:
                service.set_password(session, user, password, settings=settings.auth)
    finally:
        database.close()
    return password
