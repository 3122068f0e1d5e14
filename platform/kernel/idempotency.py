"""The same Idempotency-Key gives the same answer for 24 hours, also to requests that arrive at once.

The key is claimed by an INSERT inside the request's own transaction: a second request with the same key waits on the
unique index until the first commits, then reads its answer; when the first rolls back, the second does the work.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy import Text, delete
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Field, Session, SQLModel, col

from .clock import utc_now
from .db import moment
from .errors import Conflict

Answer = TypeVar("Answer", bound=BaseModel)

_LIFE = timedelta(hours=24)


class IdempotencyConflict(Conflict):
    """Raised when a key comes again with another request."""


class IdempotencyRecord(SQLModel, table=True):
    """A key that a principal used, and what was answered."""

    __tablename__ = "idempotency_record"

    principal_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True, max_length=255)
    request_sha256: str
    # Text and not JSONB, which would change the order of the answer's keys.
    answer: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = moment()


def once(
    session: Session,
    *,
    principal_id: str,
    key: str | None,
    route: str,
    body: BaseModel,
    answer_type: type[Answer],
    action: Callable[[], Answer],
) -> Answer:
    """Run ``action`` unless this principal's key was answered in the last 24 hours; then return that answer.

    Raises:
        IdempotencyConflict: If the key was used for another route or body.
    """
    if key is None:
        return action()
    fingerprint = sha256(f"{route}\n{body.model_dump_json()}".encode()).hexdigest()
    if not _claim(session, principal_id=principal_id, key=key, fingerprint=fingerprint):
        return _replay(session, principal_id=principal_id, key=key, fingerprint=fingerprint, answer_type=answer_type)
    answer = action()
    record = session.get_one(IdempotencyRecord, (principal_id, key))
    record.answer = answer.model_dump_json()
    return answer


def _claim(session: Session, *, principal_id: str, key: str, fingerprint: str) -> bool:
    expired = (
        col(IdempotencyRecord.principal_id) == principal_id,
        col(IdempotencyRecord.key) == key,
        col(IdempotencyRecord.created_at) < utc_now() - _LIFE,
    )
    session.execute(delete(IdempotencyRecord).where(*expired))
    claim = insert(IdempotencyRecord).values(
        principal_id=principal_id, key=key, request_sha256=fingerprint, created_at=utc_now()
    )
    claimed = session.execute(claim.on_conflict_do_nothing().returning(col(IdempotencyRecord.key)))
    return claimed.first() is not None


def _replay(session: Session, *, principal_id: str, key: str, fingerprint: str, answer_type: type[Answer]) -> Answer:
    record = session.get_one(IdempotencyRecord, (principal_id, key))
    if record.request_sha256 != fingerprint:
        raise IdempotencyConflict(
            f"The Idempotency-Key {key!r} was already used for a different request; send a new key."
        )
    if record.answer is None:
        raise IdempotencyConflict(f"The request with the Idempotency-Key {key!r} left no answer; send a new key.")
    return answer_type.model_validate_json(record.answer)
