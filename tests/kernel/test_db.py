"""Sessions and what they make of the database's own errors."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlmodel import select

from raymill.kernel.db import Database, DatabaseUnavailable, dialect_url
from raymill.kernel.errors import ExternalServiceError, ValidationFailed
from raymill.kernel.events import OutboxEvent
from raymill.kernel.resources import Resources
from raymill.kernel.settings import DatabaseSettings


def event(kind: str = "k") -> OutboxEvent:
    return OutboxEvent(id=f"evt_{kind}", kind=kind, body={})


def kinds(resources: Resources) -> list[str]:
    with resources.session() as session:
        return list(session.exec(select(OutboxEvent.kind)))


@pytest.mark.parametrize("given", ["postgresql://h/d", "postgres://h/d", "postgresql+psycopg://h/d"])
def test_urls_name_the_driver(given: str) -> None:
    assert dialect_url(given) == "postgresql+psycopg://h/d"


def test_a_database_must_be_named() -> None:
    with pytest.raises(ExternalServiceError, match="RAYMILL_DATABASE__URL"):
        Database(DatabaseSettings())


def test_an_unreachable_database_is_one_clear_error() -> None:
    nowhere = DatabaseSettings(url=SecretStr("postgresql://127.0.0.1:1/none"), connect_timeout_s=1)
    with closing(Database(nowhere)) as database:
        with pytest.raises(DatabaseUnavailable) as refused:
            database.ping()
        assert (refused.value.status, refused.value.retry_after_s) == (503, 2)
        with pytest.raises(DatabaseUnavailable), database.session() as session:
            session.exec(select(OutboxEvent)).all()


@pytest.mark.integration
def test_a_session_commits_on_leaving_and_rolls_back_on_an_error(resources: Resources) -> None:
    with resources.session() as session:
        session.add(event("kept"))

    def fail() -> None:
        with resources.session() as session:
            session.add(event("lost"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kinds(resources) == ["kept"]


@pytest.mark.integration
def test_a_value_that_cannot_be_stored_is_the_callers_fault(resources: Resources) -> None:
    with pytest.raises(ValidationFailed), resources.session() as session:
        session.add(event("nul \0"))
    assert kinds(resources) == []


@pytest.mark.integration
def test_moments_are_aware(resources: Resources) -> None:
    with resources.session() as session:
        session.add(event())
    with resources.session() as session:
        made = session.exec(select(OutboxEvent)).one().created_at
    assert timedelta(0) <= datetime.now(UTC) - made < timedelta(minutes=1)
