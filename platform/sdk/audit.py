"""The audit log."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from .documents import Document
from .transport import Query, Transport


class AuditEntry(Document):
    """What somebody did or was refused; ``before`` and ``after`` hold the fields that changed."""

    id: str
    created_at: datetime
    outcome: str
    action: str | None
    change: str | None
    actor_id: str
    actor_name: str | None
    credential: str | None
    credential_id: str | None
    address: str | None
    request_id: str | None
    object_type: str | None
    object_id: str | None
    object_name: str | None
    project_id: str | None
    project_name: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    status: int | None
    message: str | None
    repeats: int


class Audit:
    """Calls below ``/audit``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        project_id: str | None = None,
        actor_id: str | None = None,
        action: str | None = None,
        object_type: str | None = None,
        object_id: str | None = None,
        outcome: str | None = None,
        request_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AuditEntry]:
        """Walk through the log of the projects that the caller owns, newest first; administrators see all of it.

        Args:
            project_id: The only project to show.
            actor_id: Id of an account, or ``system:<app>``, or ``anonymous``.
            action: Operation id of the API, such as ``delete_model``.
            object_type: Table of what was changed, such as ``dataset``.
            object_id: Id of what was changed.
            outcome: ``done`` or ``refused``.
            request_id: The request that it follows from.
            since: The earliest moment, with its time zone.
            until: The moment before which it was, with its time zone.
        """
        asked: Query = {
            "project_id": project_id,
            "actor_id": actor_id,
            "action": action,
            "object_type": object_type,
            "object_id": object_id,
            "outcome": outcome,
            "request_id": request_id,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
        }
        return (AuditEntry.model_validate(item) for item in self._transport.items("/api/v1/audit", asked))
