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


class CreationDenied(PermissionDenied):
    """Raised when somebody may make no projects or teams: by the global role, or because a key asks."""

    def __init__(self, permission: str) -> None:
        super().__init__(
            f"This needs the permission {permission!r}, by the login of a person whose global role has it.",
            details={"permission": permission},
        )


class ProjectArchived(Conflict):
    """Raised when something in an archived project is changed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The project {name!r} is archived and does not change; restore it first.")


class TeamNotFound(NotFound):
    """Raised when the team does not exist, or not for this principal."""

    def __init__(self, team: str) -> None:
        super().__init__(f"There is no team {team!r}.", details={"id": team})


class TeamNameTaken(Conflict):
    """Raised when another team has the name."""


class LastTeamOwner(Conflict):
    """Raised when a change would leave a team without an owner."""

    def __init__(self) -> None:
        super().__init__("A team needs an owner: make somebody else one first.")


class TeamOwnerRequired(PermissionDenied):
    """Raised when a mere member changes a team."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Only an owner of the team {name!r} may change it.", details={"permission": "team:admin"})


class BadSecretName(ValidationFailed):
    """Raised when a secret's name is not a plain one."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The name {name[:100]!r} is not allowed for a secret: use 1 to 64 letters, digits, '_' and '-', "
            "starting with a letter."
        )


class SecretNotFound(NotFound):
    """Raised when the project has no secret of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The project has no secret {name[:100]!r}.", details={"name": name[:100]})


class SecretWrittenTwice(Conflict):
    """Raised when two requests write a new secret of one name at once."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The secret {name!r} was written by somebody else at the same moment; look, and try again.")


class JobRequired(PermissionDenied):
    """Raised when anybody else than a running job asks for the value of a secret."""

    def __init__(self) -> None:
        super().__init__(
            "The value of a secret is given to running jobs of its project alone.",
            details={"permission": "secret:read, as a job"},
        )


class EndpointNotOfProject(ValidationFailed):
    """Raised when a key is to call an endpoint that cannot be one of its project."""

    def __init__(self, endpoint: str, project_name: str) -> None:
        super().__init__(
            f"{endpoint!r} is no endpoint of this project: name it as in its URL, {project_name}.<deployment>, "
            "with .staging behind it for that environment.",
            details={"endpoint": endpoint},
        )


class KeyTooWide(ValidationFailed):
    """Raised when a key of a single endpoint asks for more than to call it."""

    def __init__(self) -> None:
        super().__init__("A key of a single endpoint can hold 'endpoint:invoke' and nothing else.")


class ServiceAccountNotFound(NotFound):
    """Raised when the project has no such service account."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"There is no service account {account_id} in this project.", details={"id": account_id})


class ServiceAccountNameTaken(Conflict):
    """Raised when the project has a service account of this name."""


class QuotaExceeded(Conflict):
    """Raised when a project would take more than it may; the message names quota, figure and limit."""

    def __init__(self, quota: str, *, used: float, asked: float, limit: float) -> None:
        super().__init__(
            f"This would exceed the project's quota {quota!r}: {used:g} used, {asked:g} more asked for, the limit is "
            f"{limit:g}. Give some back, or ask an administrator for more.",
            details={"quota": quota, "used": used, "asked": asked, "limit": limit},
        )


class JoiningDenied(Conflict):
    """Raised when somebody whose global role may not join is made a member."""

    def __init__(self, email: str, role: str) -> None:
        super().__init__(
            f"{email} is a {role} of the platform and joins no project or team; an administrator can change that role.",
            details={"permission": "project:join"},
        )
