"""Secrets."""

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

from .documents import Document
from .transport import Transport


class Secret(Document):
    """A secret without its value."""

    name: str
    created_by: str
    created_at: datetime
    updated_at: datetime


class Secrets:
    """Calls below ``/projects/{id}/secrets``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def put(self, project_id: str, name: str, value: str) -> Secret:
        """Keep a value under a name; jobs refer to it as ``secret://name``."""
        return Secret.model_validate(self._transport.document("PUT", _where(project_id, name), json={"value": value}))

    def list(self, project_id: str) -> Iterator[Secret]:
        """Walk through the secrets of a project, newest first."""
        return (Secret.model_validate(item) for item in self._transport.items(f"/api/v1/projects/{project_id}/secrets"))

    def delete(self, project_id: str, name: str) -> None:
        """Remove a secret."""
        self._transport.request("DELETE", _where(project_id, name))

    def value(self, project_id: str, name: str) -> str:
        """Return the value of a secret; answered to running jobs of the project alone."""
        answer = self._transport.document("GET", f"{_where(project_id, name)}/value")
        value: str = answer["value"]
        return value


def _where(project_id: str, name: str) -> str:
    return f"/api/v1/projects/{project_id}/secrets/{quote(name)}"
