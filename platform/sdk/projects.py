"""Projects."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from .documents import Document
from .errors import NotFound
from .transport import Transport

_PATH = "/api/v1/projects"


class Project(Document):
    """A project."""

    id: str
    name: str
    description: str
    settings: dict[str, Any] = {}
    archived_at: datetime | None = None
    created_at: datetime


class Member(Document):
    """An account with a role in a project."""

    user_id: str
    email: str
    name: str
    role: str


class Usage(Document):
    """How much of a quota is used."""

    used: float
    limit: float


class Projects:
    """Calls below ``/projects``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, name: str, description: str = "") -> Project:
        """Make a project that the caller owns."""
        body = {"name": name, "description": description}
        return Project.model_validate(self._transport.document("POST", _PATH, json=body, once=str(uuid4())))

    def get(self, project_id: str) -> Project:
        """Return a project by its id."""
        return Project.model_validate(self._transport.document("GET", f"{_PATH}/{project_id}"))

    def from_name(self, name: str, *, create_if_missing: bool = False) -> Project:
        """Return a project by its name.

        Raises:
            NotFound: If the caller sees none and none is to be made.
        """
        for project in self.list():
            if project.name == name:
                return project
        if not create_if_missing:
            raise NotFound(f"There is no project named {name!r}.", status=404)
        return self.create(name)

    def list(self) -> Iterator[Project]:
        """Walk through the projects that the caller may see, newest first."""
        return (Project.model_validate(item) for item in self._transport.items(_PATH))

    def update(
        self, project_id: str, *, description: str | None = None, settings: dict[str, Any] | None = None
    ) -> Project:
        """Change what is given; ``settings`` replaces all settings."""
        body = {"description": description, "settings": settings}
        return Project.model_validate(self._transport.document("PATCH", f"{_PATH}/{project_id}", json=body))

    def archive(self, project_id: str) -> Project:
        """Freeze a project: reads and its endpoints go on, changes are refused."""
        return Project.model_validate(self._transport.document("POST", f"{_PATH}/{project_id}/archive"))

    def restore(self, project_id: str) -> Project:
        """Let an archived project change again."""
        return Project.model_validate(self._transport.document("POST", f"{_PATH}/{project_id}/restore"))

    def usage(self, project_id: str) -> dict[str, Usage]:
        """Return how much of each quota a project uses."""
        answer = self._transport.document("GET", f"{_PATH}/{project_id}/usage")
        return {name: Usage.model_validate(use) for name, use in answer["quotas"].items()}

    def set_quotas(self, project_id: str, **limits: float) -> None:
        """Give a project quotas of its own in place of all it had; for administrators of the platform."""
        self._transport.request("PUT", f"{_PATH}/{project_id}/quotas", json=limits)

    def members(self, project_id: str) -> Iterator[Member]:
        """Walk through the direct members of a project, newest first."""
        return (Member.model_validate(item) for item in self._transport.items(f"{_PATH}/{project_id}/members"))

    def set_member(self, project_id: str, user: str, *, role: str) -> Member:
        """Give an account, named by its id or its email, a role: ``owner``, ``developer`` or ``viewer``."""
        path = f"{_PATH}/{project_id}/members/{quote(user)}"
        return Member.model_validate(self._transport.document("PUT", path, json={"role": role}))

    def remove_member(self, project_id: str, user: str) -> None:
        """Take an account, named by its id or its email, out of a project."""
        self._transport.request("DELETE", f"{_PATH}/{project_id}/members/{quote(user)}")

    def set_team(self, project_id: str, team: str, *, role: str) -> None:
        """Give a team that the caller is in, named by its id or its name, a role."""
        self._transport.request("PUT", f"{_PATH}/{project_id}/teams/{quote(team)}", json={"role": role})

    def remove_team(self, project_id: str, team: str) -> None:
        """Take a team, named by its id or its name, out of a project."""
        self._transport.request("DELETE", f"{_PATH}/{project_id}/teams/{quote(team)}")

    def delete(self, project_id: str) -> None:
        """Remove an empty project."""
        self._transport.request("DELETE", f"{_PATH}/{project_id}")
