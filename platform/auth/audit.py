"""The audit log: what the application itself writes into it, and how it is read.

Changes are written by the database (``kernel.audit_triggers``).
"""

from dataclasses import asdict, dataclass
from datetime import datetime

from pydantic import Field
from sqlalchemy import insert
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col
from typeid import TypeID
from uuid_utils import UUID

from ..kernel import acting
from ..kernel.bodies import Moment
from ..kernel.pagination import Page, PageQuery, paginate
from .models import AuditEntry
from .schemas import AuditOutcome

_LONGEST = 500

# Whose row it is, for whoever decides who may see it.
PROJECT = col(AuditEntry.project_id)


class AuditQuery(PageQuery):
    """What a caller asks of the audit log; whatever is left out may be anything."""

    project_id: str | None = None
    actor_id: str | None = Field(None, description="Id of an account, or `system:<app>`, or `anonymous`")
    action: str | None = Field(None, description="Operation id, such as `delete_model`")
    object_type: str | None = None
    object_id: str | None = None
    outcome: AuditOutcome | None = None
    request_id: str | None = None
    since: Moment | None = None
    until: Moment | None = None


@dataclass(frozen=True)
class Refusal:
    """A request that was refused, or the number of those that have no row of their own."""

    address: str
    message: str
    actor_id: str
    action: str | None = None
    credential: str | None = None
    credential_id: str | None = None
    request_id: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    object_name: str | None = None
    project_id: str | None = None
    status: int | None = None
    repeats: int = 1

    @classmethod
    def of_many(cls, address: str, count: int) -> "Refusal":
        """Stand for the refusals of an address that were one too many within a minute."""
        return cls(address=address, message=f"and {count} more within a minute", actor_id="various", repeats=count)


def record_refusals(session: Session, refusals: list[Refusal]) -> None:
    """Write what was refused."""
    rows = [{name: _storable(value) for name, value in asdict(refusal).items()} for refusal in refusals]
    # The database makes id and moment.
    session.execute(insert(AuditEntry), [row | {"id": "", "outcome": AuditOutcome.REFUSED} for row in rows])


def record_reuse(session: Session, *, session_id: str, user_id: str) -> None:
    """Write that a refresh token which was used before came again."""
    now = acting.current()
    entry = AuditEntry(
        id="",
        outcome=AuditOutcome.REFUSED,
        action="refresh_token_reused",
        actor_id=user_id,
        credential="session",
        credential_id=session_id,
        address=now.address if now else None,
        request_id=now.request_id if now else None,
        object_type="auth_session",
        object_id=session_id,
        message="A refresh token that was used before came again; its session has ended.",
    )
    session.execute(insert(AuditEntry), [entry.model_dump()])


def list_entries(session: Session, *, allowed: ColumnElement[bool], query: AuditQuery) -> Page[AuditEntry]:
    """Return a page of what is allowed of the log, newest first."""
    wanted = query.model_dump(exclude_none=True, exclude={"since", "until", *PageQuery.model_fields})
    conditions = [col(getattr(AuditEntry, name)) == value for name, value in wanted.items()]
    return paginate(session, AuditEntry, query, allowed, *conditions, *_between(query.since, query.until))


def _between(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """Bound the ids, which begin with the moment of their making in milliseconds."""
    conditions = []
    if since is not None:
        conditions.append(col(AuditEntry.id) >= _first_id(since))
    if until is not None:
        conditions.append(col(AuditEntry.id) < _first_id(until))
    return conditions


def _first_id(moment: datetime) -> str:
    milliseconds = max(int(moment.timestamp() * 1000), 0)
    return str(TypeID.from_uuid(suffix=UUID(int=milliseconds << 80), prefix="aud"))


def _storable(value: object) -> object:
    """Shorten what a client sent, and leave out what PostgreSQL cannot hold."""
    if not isinstance(value, str):
        return value
    return value.replace("\0", "").encode(errors="replace").decode()[:_LONGEST]


__all__ = ["PROJECT", "AuditQuery", "Refusal", "list_entries", "record_refusals", "record_reuse"]
