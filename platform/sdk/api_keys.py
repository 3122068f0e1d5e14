"""API keys."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from .documents import Document
from .transport import Transport

_PATH = "/api/v1/api-keys"


class ApiKey(Document):
    """A key without its secret."""

    id: str
    project_id: str
    name: str
    prefix: str
    permissions: list[str]
    endpoint: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewApiKey(ApiKey):
    """A key with its secret, which is shown this once."""

    key: str


class ApiKeys:
    """Calls below ``/api-keys``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        project_id: str,
        name: str,
        permissions: Sequence[str] = ("*",),
        expires_at: datetime | None = None,
        endpoint: str | None = None,
        service_account_id: str | None = None,
    ) -> NewApiKey:
        """Make a key.

        Args:
            project_id: The project in which it works.
            name: Said in lists and in the audit log.
            permissions: ``["*"]`` stands for all that the caller, or the service account, may do in the project.
            expires_at: When it dies; None for never.
            endpoint: The only endpoint that it may call; its one permission is then ``endpoint:invoke``.
            service_account_id: The service account that it stands for, instead of the caller.
        """
        body = {
            "project_id": project_id,
            "name": name,
            "permissions": list(permissions),
            "expires_at": expires_at.isoformat() if expires_at else None,
            "endpoint": endpoint,
            "service_account_id": service_account_id,
        }
        return NewApiKey.model_validate(self._transport.document("POST", _PATH, json=body))

    def get(self, key_id: str) -> ApiKey:
        """Return a key without its secret."""
        return ApiKey.model_validate(self._transport.document("GET", f"{_PATH}/{key_id}"))

    def list(self, *, project_id: str | None = None) -> Iterator[ApiKey]:
        """Walk through the keys that the caller may manage, newest first."""
        items = self._transport.items(_PATH, {"project_id": project_id})
        return (ApiKey.model_validate(item) for item in items)

    def rotate(self, key_id: str, *, overlap_s: int = 0) -> NewApiKey:
        """Replace a key by one of the same rights; the old one works ``overlap_s`` seconds more."""
        answer = self._transport.document("POST", f"{_PATH}/{key_id}/rotate", json={"overlap_s": overlap_s})
        return NewApiKey.model_validate(answer)

    def revoke(self, key_id: str) -> None:
        """End a key."""
        self._transport.request("DELETE", f"{_PATH}/{key_id}")
