"""Bring the database schema to the version that this code expects."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ProgrammingError

from . import audit_triggers
from .db import Database
from .errors import InternalError
from .settings import DatabaseSettings, Settings

log = structlog.get_logger("raymill.kernel")

_SCRIPTS = Path(__file__).parents[1] / "migrations"
# Any constant will do: PostgreSQL's advisory locks are numbers, and two migrators must choose the same.
_LOCK = 0x7261796D


class NotTheOwner(InternalError):
    """Raised when the schema is to be changed and the role that would do it owns no tables."""

    def __init__(self) -> None:
        super().__init__(
            "The database's tables, or the rules of its audit log, are not those of this version and of "
            "RAYMILL_CONTROLLER__KEEP_AUDIT_DAYS, and this role may not change them: run 'raymill up', or set "
            "RAYMILL_DATABASE__ADMIN_URL to the role that owns them."
        )


def upgrade(settings: Settings) -> None:
    """Run the pending migrations as the tables' owner; two processes at once wait for each other.

    Raises:
        DatabaseUnavailable: If PostgreSQL cannot be reached.
        NotTheOwner: If the role may not change the tables.
    """
    database = Database(settings.database.as_owner, app="migration")
    try:
        database.ping()
        with database.engine.connect() as connection:
            _upgrade(connection, settings)
    except ProgrammingError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            raise NotTheOwner from error
        raise
    finally:
        database.close()


def _upgrade(connection: Connection, settings: Settings) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    role = _app_role(settings.database, connection)
    if role is None:
        log.warning("audit_log_not_append_only", mend="give RAYMILL_DATABASE__ADMIN_URL a role of its own")
    audit_triggers.install(connection, app_role=role, keep_days=settings.controller.keep_audit_days)
    connection.commit()
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})


def _app_role(settings: DatabaseSettings, connection: Connection) -> str | None:
    """Return the role of the application, unless that is the owner itself."""
    named = make_url(settings.url.get_secret_value()).username if settings.url else None
    role = named or _logged_in(settings)
    owner = connection.execute(text("SELECT current_user")).scalar_one()
    return role if role != owner else None


def _logged_in(settings: DatabaseSettings) -> str:
    """Return the role that a URL without a user name stands for: libpq takes it from its surroundings."""
    database = Database(settings, app="migration")
    try:
        with database.session() as session:
            role: str = session.execute(text("SELECT current_user")).scalar_one()
            return role
    finally:
        database.close()


def alembic_config() -> Config:
    """Return Alembic's configuration, without a file.

    Raises:
        InternalError: If the migration scripts are not installed.
    """
    if not _SCRIPTS.is_dir():
        raise InternalError(f"The migration scripts are missing: {_SCRIPTS}.")
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config
