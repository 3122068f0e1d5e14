"""Makes sure of the database's schema when a process starts, without keeping it from starting during an outage."""

import time
from pathlib import Path
from threading import Thread

import structlog
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from .audit_triggers import mark
from .db import Database, DatabaseUnavailable
from .errors import RaymillError
from .settings import Settings

log = structlog.get_logger("raymill.kernel")

RETRY_S = 1.0
_FOUND = "SELECT version_num, obj_description(to_regproc('audit_change'), 'pg_proc') FROM alembic_version"
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
    """Say whether the database has the schema and the rules of the audit log that code and settings expect.

    Raises:
        DatabaseUnavailable: If PostgreSQL cannot be reached.
    """
    return _find(settings) == (newest_version(), mark(settings.controller.keep_audit_days))


def has_newest_tables(settings: Settings) -> bool:
    """Say whether the database has the tables that the code expects, whatever the rules of its audit log.

    Raises:
        DatabaseUnavailable: If PostgreSQL cannot be reached.
    """
    return _find(settings)[0] == newest_version()


def _find(settings: Settings) -> tuple[str | None, str | None]:
    """Return the version of the tables and the mark of the audit log's rules."""
    database = Database(settings.database)
    try:
        with database.session() as session:
            found = session.execute(text(_FOUND)).one_or_none()
    except ProgrammingError:  # there is no such table yet
        return None, None
    finally:
        database.close()
    return (found[0], found[1]) if found else (None, None)


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


__all__ = ["ensure_schema", "has_newest_tables", "is_current", "newest_version"]
