"""Makes sure of the database's schema when a process starts, without keeping it from starting during an outage."""

import time
from pathlib import Path
from threading import Thread

import structlog
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from .db import Database, DatabaseUnavailable
from .errors import RaymillError
from .settings import Settings

log = structlog.get_logger("raymill.kernel")

RETRY_S = 1.0
_VERSIONS = Path(__file__).parents[1] / "migrations" / "versions"


def ensure_schema(settings: Settings) -> None:
    """Run the migrations that the database lacks; while it does not answer, go on and try again in the background.

    Raises:
        RaymillError: If the database answers and the schema cannot be made.
    """
    try:
        _ensure(settings)
    except DatabaseUnavailable as error:
        log.warning("schema_not_checked", error=error.message)
        Thread(name="schema", target=_keep_trying, args=(settings,), daemon=True).start()


def newest_version() -> str:
    """Return the version that this code expects: the number that begins the name of the last migration."""
    return max(path.name.split("_")[0] for path in _VERSIONS.glob("[0-9]*_*.py"))


def is_current(settings: Settings) -> bool:
    """Say whether the database has the schema that this code expects.

    Raises:
        DatabaseUnavailable: If PostgreSQL cannot be reached.
    """
    database = Database(settings.database)
    try:
        with database.session() as session:
            found = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except ProgrammingError:  # there is no such table yet
        return False
    finally:
        database.close()
    return found == newest_version()


def _ensure(settings: Settings) -> None:
    if is_current(settings):
        return
    # Alembic and every slice's tables: 40 MB that a process with a current schema does without.
    from .migrate import upgrade

    upgrade(settings)


def _keep_trying(settings: Settings) -> None:
    while True:
        time.sleep(RETRY_S)
        try:
            _ensure(settings)
        except DatabaseUnavailable:
            continue
        except RaymillError as error:
            log.exception("schema_not_made", error=error.message)
        return


__all__ = ["ensure_schema", "is_current", "newest_version"]
