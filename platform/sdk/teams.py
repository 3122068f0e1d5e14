"""Teams."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from .documents import Document
from .transport import Transport

_PATH = "/api/v1/teams"


class Team(Document):
    """A group of accounts with roles in projects; ``permissions`` bounds what those roles give."""

    id: str
    name: str
    description: str
    permissions: list[str]
    members: list[dict[str, Any]]
    projects: list[dict[str, Any]]


class Teams:
    """Calls below ``/teams``; a team is named by its id or its name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, *, description: str = "", permissions: Sequence[str] = ("*",)) -> Team:
        """Make a team that the caller owns."""
        body = {"name": name, "description": description, "permissions": list(permissions)}
        return Team.model_validate(self._transport.document("POST", _PATH, json=body))

    def get(self, team: str) -> Team:
        """Return a team that the caller is in."""
        return Team.model_validate(self._transport.document("GET", _where(team)))

    def list(self) -> Iterator[Team]:
        """Walk through the teams that the caller is in, newest first."""
        return (Team.model_validate(item) for item in self._transport.items(_PATH))

    def update(self, team: str, *, description: str | None = None, permissions: Sequence[str] | None = None) -> Team:
        """Change what is given."""
        body = {"description": description, "permissions": list(permissions) if permissions is not None else None}
        return Team.model_validate(self._transport.document("PATCH", _where(team), json=body))

    def delete(self, team: str) -> None:
        """Remove a team; its members lose what they had by it."""
        self._transport.request("DELETE", _where(team))

    def set_member(self, team: str, user: str, *, role: str = "member") -> None:
        """Put an account, named by its id or its email, into a team, as ``member`` or ``owner``."""
        self._transport.request("PUT", f"{_where(team)}/members/{quote(user)}", json={"role": role})

    def remove_member(self, team: str, user: str) -> None:
        """Take an account, named by its id or its email, out of a team."""
        self._transport.request("DELETE", f"{_where(team)}/members/{quote(user)}")


def _where(team: str) -> str:
    return f"{_PATH}/{quote(team)}"
