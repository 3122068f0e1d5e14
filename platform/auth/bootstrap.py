"""The first account of a new platform."""

import secrets

from ..kernel.db import Database
from ..kernel.security import load_signer
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
    try:
        with database.session() as session:
            if service.find_user(session, ADMIN_EMAIL) is not None:
                return None
            service.register(
                session,
                data=UserRegistration(email=ADMIN_EMAIL, name="Administrator", password=password),
                signer=load_signer(settings.keys_dir, settings.auth),
                settings=settings.auth,
                role=GlobalRole.ADMIN,
            )
    except EmailTaken:  # by another process that started at the same moment
        return None
    else:
        return password
    finally:
        database.close()
