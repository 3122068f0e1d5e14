"""What can go wrong with projects."""

from ..kernel.errors import Conflict, NotFound, PermissionDenied, ValidationFailed


class ProjectNotFound(NotFound):
    """Raised when the project does not exist, or not for this principal."""

    def __init__(self, project_id: str) -> None:
        super().__init__(f"There is no project {project_id}.", details={"id": project_id})


class ProjectRequired(ValidationFailed):
    """Raised when the request does not say which project it is about."""


class ProjectNameTaken(Conflict):
    """Raised when another project has the name."""


class ProjectNotEmpty(Conflict):
    """Raised when a project that still holds something is deleted."""


class LastOwner(Conflict):
    """Raised when a change would leave a project without an owner."""


class MemberNotFound(NotFound):
    """Raised when no such account or member exists."""


class ProjectCreationDenied(PermissionDenied):
    """Raised when the account's global role may not create projects."""
