"""PostgreSQL: one engine per process, one transaction per request.

Sessions are synchronous (psycopg 3). Whoever opens a session commits it by leaving the ``with`` block;
``Resources.session`` also delivers the domain events that were recorded in it. Nobody waits for a server that does
not answer: see ``outage``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import DateTime, Engine, MetaData, create_engine, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as SqlTimeoutError
from sqlmodel import Field, Session, SQLModel

from .acting import declare_changes
from .clock import utc_now
from .errors import Conflict, DiskFull, ExternalServiceError, ValidationFailed
from .outage import DatabaseUnavailable, OutageWatch
from .settings import DatabaseSettings

__all__ = [
    "Database",
    "DatabaseUnavailable",
    "Session",
    "Table",
    "document",
    "moment",
    "optional_moment",
    "unless_refused",
]

# A host that vanishes without a word is noticed by TCP within a quarter of a minute.
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}

# Constraint names are fixed so that migrations can name what they drop.
naming = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = MetaData(naming_convention=naming).naming_convention


def moment() -> Any:
    """Declare a column that holds an aware moment, now unless given."""
    return Field(default_factory=utc_now, sa_type=DateTime(timezone=True), nullable=False)


def optional_moment() -> Any:
    """Declare a column that holds an aware moment or nothing."""
    return Field(default=None, sa_type=DateTime(timezone=True), nullable=True)


def document(**kwargs: Any) -> Any:
    """Declare a JSONB column; ``default_factory`` and the like pass through."""
    return Field(sa_type=JSONB, **kwargs)


class Table(SQLModel):
    """Column set that every entity has: a TypeID and the moment of its making."""

    id: str = Field(primary_key=True)
    created_at: datetime = moment()


class Database:
    """The engine of one process and the sessions made from it."""

    def __init__(self, settings: DatabaseSettings, *, app: str = "raymill") -> None:
        """Prepare the engine; no connection is made yet.

        Args:
            settings: Where the database is.
            app: What the audit log names as the author of what no request asked for.

        Raises:
            ExternalServiceError: If no URL is configured.
        """
        if settings.url is None:
            raise ExternalServiceError("No database is configured: run 'raymill up' or set RAYMILL_DATABASE__URL.")
        self.engine: Engine = create_engine(
            dialect_url(settings.url.get_secret_value()),
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_pre_ping=True,
            pool_timeout=5,
            hide_parameters=True,  # they hold password and token hashes, and errors are logged
            connect_args={**_KEEPALIVE, "application_name": app},
        )
        declare_changes(self.engine)
        self._watch = OutageWatch(self.engine, connect_s=settings.connect_timeout_s, patience_s=settings.silence_s)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session that commits on leaving and rolls back on an error.

        Raises:
            DatabaseUnavailable: If PostgreSQL cannot be reached.
        """
        self._refuse_outage()
        with translate_outage(), Session(self.engine, expire_on_commit=False) as session:
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise

    def ping(self) -> None:
        """Run one query.

        Raises:
            DatabaseUnavailable: If PostgreSQL cannot be reached.
        """
        self._refuse_outage()
        with translate_outage(), self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every pooled connection."""
        self._watch.stop()
        self.engine.dispose()

    def _refuse_outage(self) -> None:
        self._watch.start()
        self._watch.refuse()


@contextmanager
def unless_refused(session: Session, conflict: Conflict) -> Iterator[None]:
    """Write the block's changes in a savepoint; a constraint that refuses them raises ``conflict`` instead."""
    try:
        with session.begin_nested():
            yield
    except IntegrityError as error:
        raise conflict from error


@contextmanager
def translate_outage() -> Iterator[None]:
    """Turn connection errors into ``DatabaseUnavailable``, a full disk into ``DiskFull``, bad values into a refusal."""
    try:
        yield
    except SqlTimeoutError as error:
        raise DatabaseUnavailable from error
    except DataError as error:
        raise ValidationFailed("A value holds a NUL character or is out of range; correct it.") from error
    except DBAPIError as error:
        # While a connection is made the code is lost, and the words are all there is.
        if isinstance(error.orig, psycopg.errors.DiskFull) or "No space left on device" in str(error.orig):
            raise DiskFull from error
        if isinstance(error, OperationalError) or error.connection_invalidated:
            raise DatabaseUnavailable from error
        raise


def dialect_url(url: str) -> str:
    """Name the psycopg 3 driver in a plain ``postgresql://`` URL."""
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            return "postgresql+psycopg://" + url.removeprefix(plain)
    return url
