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
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


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
    ) -> NewApiKey:
        """Make a key; ``["*"]`` stands for all that the caller may do in the project."""
        body = {
            "project_id": project_id,
            "name": name,
            "permissions": list(permissions),
            "expires_at": expires_at.isoformat() if expires_at else None,
        }
        return NewApiKey.model_validate(self._transport.document("POST", _PATH, json=body))

    def get(self, key_id: str) -> ApiKey:
        """Return a key without its secret."""
        return ApiKey.model_validate(self._transport.document("GET", f"{_PATH}/{key_id}"))

    def list(self, *, project_id: str | None = None) -> Iterator[ApiKey]:
        """Walk through the keys that the caller may manage, newest first."""
        items = self._transport.items(_PATH, {"project_id": project_id})
        return (ApiKey.model_validate(item) for item in items)

    def revoke(self, key_id: str) -> None:
        """End a key."""
        self._transport.request("DELETE", f"{_PATH}/{key_id}")
