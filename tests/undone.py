"""The control plane on a real database in which nothing stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fastapi import FastAPI
from sqlmodel import Session

from raymill.gateway.app import create_app
from raymill.kernel.db import Database
from raymill.kernel.events import EventBus
from raymill.kernel.resources import Resources


class Undone(Database):
    """A database in which nothing stays: what a request does is written to PostgreSQL and rolled back."""

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session that rolls back on leaving."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session
            session.flush()
            # Else the rollback would take away what is read of them afterwards.
            session.expunge_all()
            session.rollback()
            # What was undone has not happened.
            session.info.clear()


@contextmanager
def undone_app(resources: Resources) -> Iterator[FastAPI]:
    """Compose the control plane on the same connections and on a database that keeps nothing."""
    database = Undone(resources.settings.database)
    app = create_app(replace(resources, database=database, events=EventBus()))
    try:
        yield app
    finally:
        app.state.refusals.close()
        database.close()
