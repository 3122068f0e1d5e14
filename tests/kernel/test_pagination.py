"""Invariants of keyset pagination, on rows that come and go between the pages."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, col, delete

from raymill.kernel.errors import ValidationFailed
from raymill.kernel.events import OutboxEvent
from raymill.kernel.ids import new_id
from raymill.kernel.pagination import Page, PageQuery, paginate
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration

PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def rows(resources: Resources) -> Iterator[Session]:
    """Open a session whose rows are never committed."""
    with Session(resources.database.engine) as session:
        yield session
        session.rollback()


def add(session: Session, kinds: list[str]) -> list[str]:
    made = [OutboxEvent(id=new_id("evt"), kind=kind, body={}) for kind in kinds]
    session.add_all(made)
    session.flush()
    return [row.id for row in made]


def empty(session: Session) -> None:
    session.execute(delete(OutboxEvent))


def read(session: Session, limit: int, cursor: str | None = None) -> Page[OutboxEvent]:
    return paginate(session, OutboxEvent, PageQuery(limit=limit, cursor=cursor), OutboxEvent.kind == "wanted")


@given(st.lists(st.sampled_from(["wanted", "other"]), max_size=25), st.integers(1, 10))
@PROPERTY
def test_pages_together_are_the_list_newest_first(rows: Session, kinds: list[str], limit: int) -> None:
    empty(rows)
    ids = [id_ for id_, kind in zip(add(rows, kinds), kinds, strict=True) if kind == "wanted"]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = read(rows, limit, cursor)
        assert len(page.items) <= limit
        seen += [row.id for row in page.items]
        if page.next_cursor is None:
            break
        assert len(page.items) == limit
        cursor = page.next_cursor
    assert seen == ids[::-1]


@given(st.integers(2, 15), st.integers(1, 5), st.integers(0, 5), st.sets(st.integers(0, 14)))
@PROPERTY
def test_what_stays_is_seen_once_whatever_comes_and_goes(
    rows: Session, held: int, limit: int, new: int, gone: set[int]
) -> None:
    empty(rows)
    ids = add(rows, ["wanted"] * held)
    first = read(rows, limit)
    add(rows, ["wanted"] * new)
    leaving = [id_ for index, id_ in enumerate(ids) if index in gone]
    rows.execute(delete(OutboxEvent).where(col(OutboxEvent.id).in_(leaving)))
    seen = [row.id for row in first.items]
    cursor = first.next_cursor
    while cursor is not None:
        page = read(rows, limit, cursor)
        seen += [row.id for row in page.items]
        cursor = page.next_cursor
    assert len(seen) == len(set(seen))
    assert set(ids) - set(leaving) <= set(seen) <= set(ids)


def test_an_exact_last_page_has_no_cursor(rows: Session) -> None:
    add(rows, ["wanted"] * 4)
    first = read(rows, 2)
    assert read(rows, 2, first.next_cursor).next_cursor is None


@pytest.mark.parametrize("cursor", ["ä", "_", "//79", "\u2603"])
def test_a_forged_cursor_is_refused(rows: Session, cursor: str) -> None:
    with pytest.raises(ValidationFailed, match="cursor"):
        read(rows, 2, cursor)


def test_a_page_is_converted_item_by_item() -> None:
    assert Page(items=[1, 2], next_cursor="c").map(str) == Page[str](items=["1", "2"], next_cursor="c")
