"""The tables of leases and of what was declared to Serve."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from ..kernel.db import document, moment


class Lease(SQLModel, table=True):
    """The right of one controller to act, until it expires; ``token`` grows with each change of holder."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    token: int = 1
    expires_at: datetime = moment()


class ServeDeclaration(SQLModel, table=True):
    """The static applications that were last declared to the Ray cluster of a lease, as its Serve shows them."""

    __tablename__ = "serve_declaration"

    lease: str = Field(primary_key=True, foreign_key="lease.name", ondelete="CASCADE")
    declared: dict[str, Any] = document()
