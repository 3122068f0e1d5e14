"""A PostgreSQL that hangs, goes and comes back: nobody waits for it, and nothing has to be restarted."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.kernel.db import Database, DatabaseUnavailable
from raymill.kernel.settings import DatabaseSettings
from timing import seconds_until, until

pytestmark = [pytest.mark.integration, pytest.mark.alone]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of its own, because it is stopped."""
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("outage"), durable=False)
    postgres.start()
    yield postgres
    postgres.destroy()


@pytest.fixture
def database(server: EmbeddedPostgres) -> Iterator[Database]:
    """A process' sessions, watched and used before the test begins."""
    opened = Database(DatabaseSettings(url=SecretStr(server.url)))
    until(lambda: answers(opened))
    yield opened
    opened.close()


def answers(database: Database) -> bool:
    try:
        with database.session() as session:
            session.execute(text("SELECT 1"))
    except DatabaseUnavailable:
        return False
    return True


def send(server: EmbeddedPostgres, number: signal.Signals) -> None:
    postmaster = server.find_process()
    assert postmaster
    for process in [postmaster, *postmaster.children()]:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def seconds_to_refuse(database: Database) -> float:
    started = time.monotonic()
    assert not answers(database)
    return time.monotonic() - started


def test_nobody_waits_for_a_server_that_hangs(server: EmbeddedPostgres, database: Database) -> None:
    send(server, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as pool:
            waits = list(pool.map(lambda _: seconds_to_refuse(database), range(8)))
        at_once = seconds_to_refuse(database)
    finally:
        send(server, signal.SIGCONT)
    back = seconds_until(lambda: answers(database))
    assert max(waits) < 2.0
    assert at_once < 0.1
    assert back < 1.5


def test_a_statement_that_is_under_way_is_cut(server: EmbeddedPostgres, database: Database) -> None:
    def wait_for_it() -> float:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable), database.session() as session:
            session.execute(text("SELECT pg_sleep(30)"))
        return time.monotonic() - started

    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(wait_for_it)
        until(lambda: "pg_sleep" in activity(database))
        send(server, signal.SIGSTOP)
        try:
            assert waited.result(timeout=5) < 4
        finally:
            send(server, signal.SIGCONT)
    until(lambda: answers(database))


def test_a_server_that_was_restarted_is_used_again(server: EmbeddedPostgres, database: Database) -> None:
    server.stop()
    try:
        until(lambda: not answers(database))
        assert seconds_to_refuse(database) < 0.5
    finally:
        server.start()
    assert seconds_until(lambda: answers(database)) < 1.5


def test_a_slow_statement_is_no_outage(database: Database) -> None:
    with database.session() as session:
        session.execute(text("SELECT pg_sleep(1.6)"))


def activity(database: Database) -> str:
    with database.session() as session:
        rows = session.execute(
            text("SELECT query FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()")
        )
        return " ".join(row[0] for row in rows)
