"""Bring the database schema to the version that this code expects."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text

from .db import Database
from .errors import InternalError
from .settings import Settings

_SCRIPTS = Path(__file__).parents[1] / "migrations"
# Any constant will do: PostgreSQL's advisory locks are numbers, and two migrators must choose the same.
_LOCK = 0x7261796D


def upgrade(settings: Settings) -> None:
    """Run the pending migrations; two processes at once wait for each other.

    Raises:
        DatabaseUnavailable: If PostgreSQL cannot be reached.
    """
    database = Database(settings.database)
    try:
        database.ping()
        with database.engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
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
