"""Leases between two controllers, on a clock that the test moves."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlmodel import Session

from raymill.controller.leases import LeaseKeeper, database_now
from raymill.kernel.clock import utc_now
from raymill.kernel.db import Database, DatabaseUnavailable
from raymill.kernel.resources import Resources
from raymill.kernel.settings import DatabaseSettings

pytestmark = pytest.mark.integration

LIFE_S = 10.0


class FakeClock:
    """The database's clock and everybody's monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self, session: Session) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def keeper(database: Database, holder: str, clock: FakeClock, *names: str) -> LeaseKeeper:
    return LeaseKeeper(
        database,
        names=names or ("global",),
        holder=holder,
        life_s=LIFE_S,
        now=clock.now,
        monotonic=clock.monotonic,
    )


def test_only_one_of_two_holds_the_lease_until_it_expires(resources: Resources, clock: FakeClock) -> None:
    first, second = (keeper(resources.database, name, clock) for name in ("first", "second"))
    first.renew()
    second.renew()
    assert (first.token("global"), second.token("global")) == (1, None)

    clock.advance(LIFE_S - 1)
    first.renew()
    clock.advance(LIFE_S - 1)
    second.renew()
    assert (first.token("global"), second.token("global")) == (1, None)

    clock.advance(2)
    assert first.token("global") is None
    second.renew()
    first.renew()
    assert (first.token("global"), second.token("global")) == (None, 2)


def test_leases_are_independent(resources: Resources, clock: FakeClock) -> None:
    first = keeper(resources.database, "first", clock, "global", "cluster:a")
    second = keeper(resources.database, "second", clock, "global", "cluster:b")
    first.renew()
    second.renew()
    held = [(each.token("global"), each.token("cluster:a"), each.token("cluster:b")) for each in (first, second)]
    assert held == [(1, 1, None), (None, None, 1)]


def test_a_released_lease_is_free_at_once(resources: Resources, clock: FakeClock) -> None:
    first, second = (keeper(resources.database, name, clock) for name in ("first", "second"))
    first.renew()
    first.release()
    second.renew()
    assert (first.token("global"), second.token("global")) == (None, 2)


def test_of_many_that_ask_at_once_one_gets_it(resources: Resources, clock: FakeClock) -> None:
    keepers = [keeper(resources.database, f"holder {number}", clock) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(LeaseKeeper.renew, keepers))
    assert [each.token("global") for each in keepers].count(1) == 1
    assert [each.token("global") for each in keepers].count(None) == 7


def test_without_the_database_a_lease_runs_out_by_itself(resources: Resources, clock: FakeClock) -> None:
    nowhere = DatabaseSettings(url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), connect_timeout_s=1)
    first = keeper(resources.database, "first", clock)
    first.renew()
    with closing(Database(nowhere)) as first._database, pytest.raises(DatabaseUnavailable):
        first.renew()
    assert first.token("global") == 1
    clock.advance(LIFE_S)
    assert first.token("global") is None


def test_the_default_clock_is_the_databases(resources: Resources) -> None:
    with resources.session() as session:
        assert abs(database_now(session) - utc_now()) < timedelta(seconds=5)
