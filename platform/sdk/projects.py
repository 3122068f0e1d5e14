"""Projects."""

from collections.abc import Iterator
from datetime import datetime
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
    created_at: datetime


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

    def update(self, project_id: str, *, description: str) -> Project:
        """Change the description."""
        body = {"description": description}
        return Project.model_validate(self._transport.document("PATCH", f"{_PATH}/{project_id}", json=body))

    def delete(self, project_id: str) -> None:
        """Remove an empty project."""
        self._transport.request("DELETE", f"{_PATH}/{project_id}")
