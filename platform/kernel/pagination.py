"""Keyset pagination over time-sorted ids; never OFFSET."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field
from sqlalchemy import func
from sqlalchemy import select as sql_select
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, select

from .db import Table
from .errors import ValidationFailed

Row = TypeVar("Row", bound=Table)
Item = TypeVar("Item")
Other = TypeVar("Other")


class PageQuery(BaseModel):
    """What a client asks of a list: how many, and after which item."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: str | None = None


class Page(BaseModel, Generic[Item]):
    """A slice of a list, newest first, and the cursor of the next one."""

    items: list[Item]
    next_cursor: str | None = None

    def map(self, convert: Callable[[Item], Other]) -> "Page[Other]":
        """Return the same page with every item converted."""
        return Page[Any](items=[convert(item) for item in self.items], next_cursor=self.next_cursor)


def paginate(session: Session, table: type[Row], query: PageQuery, *filters: ColumnElement[bool] | bool) -> Page[Row]:
    """Read one page of ``table``, newest first.

    Raises:
        ValidationFailed: If the cursor is not one that a former page gave.
    """
    statement = select(table).where(*filters).order_by(col(table.id).desc())
    if query.cursor is not None:
        statement = statement.where(col(table.id) < from_cursor(query.cursor))
    rows = list(session.exec(statement.limit(query.limit + 1)))
    more = len(rows) > query.limit
    kept = rows[: query.limit]
    return Page[Any](items=kept, next_cursor=to_cursor(kept[-1].id) if more else None)


class Named(BaseModel):
    """A thing by its name."""

    id: str
    name: str
    created_at: datetime


class Glance(BaseModel):
    """How many things there are, and the newest of them."""

    count: int
    latest: list[Named]


def glance(session: Session, table: type[Row], *filters: ColumnElement[bool], limit: int = 5) -> Glance:
    """Count the rows of a table with a ``name`` and read the newest, in one query."""
    columns = table.__table__.c  # type: ignore[attr-defined]
    statement = sql_select(columns.id, columns.name, columns.created_at, func.count().over())
    rows = session.execute(statement.where(*filters).order_by(columns.id.desc()).limit(limit)).all()
    latest = [Named(id=id_, name=name, created_at=created_at) for id_, name, created_at, _ in rows]
    return Glance(count=rows[0][3] if rows else 0, latest=latest)


def to_cursor(place: str) -> str:
    """Return a place in a list as clients see it."""
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


def from_cursor(cursor: str) -> str:
    """Return the place that a cursor stands for.

    Raises:
        ValidationFailed: If it is not one that a former page gave.
    """
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (Base64Error, UnicodeDecodeError, ValueError) as error:
        raise ValidationFailed("The cursor is not one that this API gave.", details={"cursor": cursor}) from error
