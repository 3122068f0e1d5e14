"""Keyset pagination over time-sorted ids; never OFFSET."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field
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
        statement = statement.where(col(table.id) < _decode(query.cursor))
    rows = list(session.exec(statement.limit(query.limit + 1)))
    more = len(rows) > query.limit
    kept = rows[: query.limit]
    return Page[Any](items=kept, next_cursor=_encode(kept[-1].id) if more else None)


def _encode(id_: str) -> str:
    return urlsafe_b64encode(id_.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (Base64Error, UnicodeDecodeError, ValueError) as error:
        raise ValidationFailed("The cursor is not one that this API gave.", details={"cursor": cursor}) from error
