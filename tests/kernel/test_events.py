"""The transactional outbox."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlmodel import select

from raymill.kernel.clock import utc_now
from raymill.kernel.events import OutboxEvent, record, undelivered
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class ThingHappened:
    thing: str
    times: int = 1


@dataclass(frozen=True)
class OtherHappened:
    thing: str


class Abandoned(Exception):
    pass


def happen(resources: Resources, *things: str) -> None:
    with resources.session() as session:
        for thing in things:
            record(session, ThingHappened(thing=thing))


def age(resources: Resources) -> None:
    """Make every event older than the sweep's grace."""
    with resources.session() as session:
        for row in session.exec(select(OutboxEvent)):
            row.created_at = utc_now() - timedelta(seconds=10)
            session.add(row)


def pending(resources: Resources) -> list[OutboxEvent]:
    with resources.session() as session:
        return undelivered(session, older_than_s=0)


def test_handlers_are_called_in_order_after_the_commit(resources: Resources) -> None:
    seen: list[tuple[str, ThingHappened]] = []
    rows_seen: list[int] = []

    def look(event: ThingHappened) -> None:
        with resources.session() as session:
            rows_seen.append(len(session.exec(select(OutboxEvent)).all()))

    resources.events.subscribe(ThingHappened, lambda event: seen.append(("first", event)))
    resources.events.subscribe(ThingHappened, lambda event: seen.append(("second", event)))
    resources.events.subscribe(ThingHappened, look)
    resources.events.subscribe(OtherHappened, lambda event: pytest.fail("not for this handler"))
    happen(resources, "a", "b")
    assert seen == [(name, ThingHappened(thing)) for thing in "ab" for name in ("first", "second")]
    assert rows_seen == [2, 2]
    assert pending(resources) == []


def test_what_is_rolled_back_did_not_happen(resources: Resources) -> None:
    resources.events.subscribe(ThingHappened, lambda event: pytest.fail("never committed"))

    def abandon() -> None:
        with resources.session() as session:
            record(session, ThingHappened("a"))
            raise Abandoned

    with pytest.raises(Abandoned):
        abandon()
    assert pending(resources) == []


def test_a_failing_handler_is_called_again_by_the_sweep(resources: Resources) -> None:
    seen: list[str] = []
    broken = True

    def handle(event: ThingHappened) -> None:
        if broken and event.thing == "b":
            raise Abandoned
        seen.append(event.thing)

    resources.events.subscribe(ThingHappened, handle)
    happen(resources, "a", "b", "c")
    assert seen == ["a", "c"]
    assert [row.body["thing"] for row in pending(resources)] == ["b"]
    age(resources)
    assert resources.redeliver() == 1
    assert seen == ["a", "c"]
    broken = False
    assert resources.redeliver() == 1
    assert seen == ["a", "c", "b"]
    assert resources.redeliver() == 0


def test_the_sweep_delivers_what_a_dead_process_left(resources: Resources) -> None:
    with resources.database.session() as session:
        record(session, ThingHappened("a", times=3))
    seen: list[ThingHappened] = []
    resources.events.subscribe(ThingHappened, seen.append)
    assert resources.redeliver() == 0, "a young event may still be in its own process's hands"
    age(resources)
    assert resources.redeliver() == 1
    assert seen == [ThingHappened("a", times=3)]


def test_a_handler_may_record_further_events(resources: Resources) -> None:
    seen: list[OtherHappened] = []

    def follow(event: ThingHappened) -> None:
        with resources.session() as session:
            record(session, OtherHappened(event.thing))

    resources.events.subscribe(ThingHappened, follow)
    resources.events.subscribe(OtherHappened, seen.append)
    happen(resources, "a")
    assert seen == [OtherHappened("a")]
    assert pending(resources) == []
