"""The table of leases."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from ..kernel.db import moment


class Lease(SQLModel, table=True):
    """The right of one controller to act, until it expires; ``token`` grows with each change of holder."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    token: int = 1
    expires_at: datetime = moment()
