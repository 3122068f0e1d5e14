"""Dependencies that put the caller's right into an endpoint's signature."""

from typing import Annotated

from fastapi import Depends

from ..auth.deps import CurrentPrincipal, UserAdmin
from ..auth.needs import Caller, needs, open_to
from ..auth.permissions import Permission
from ..kernel.deps import DbSession
from . import teams
from .models import Project, Team
from .service import authorize

__all__ = [
    "ProjectAdmin",
    "ProjectGoverned",
    "ProjectReader",
    "SecretReader",
    "SecretWriter",
    "TeamOwner",
    "TeamReader",
]


@needs(Permission.PROJECT_READ)
def _reader(project_id: str, principal: CurrentPrincipal, session: DbSession) -> Project:
    return authorize(session, principal, project_id, Permission.PROJECT_READ)


@needs(Permission.PROJECT_ADMIN)
def _admin(project_id: str, principal: CurrentPrincipal, session: DbSession) -> Project:
    return authorize(session, principal, project_id, Permission.PROJECT_ADMIN)


@needs(Permission.USER_ADMIN)
def _governed(project_id: str, admin: UserAdmin, session: DbSession) -> Project:
    return authorize(session, admin, project_id, Permission.USER_ADMIN)


@needs(Permission.SECRET_READ)
def _secret_reader(project_id: str, principal: CurrentPrincipal, session: DbSession) -> Project:
    return authorize(session, principal, project_id, Permission.SECRET_READ)


@needs(Permission.SECRET_WRITE)
def _secret_writer(project_id: str, principal: CurrentPrincipal, session: DbSession) -> Project:
    return authorize(session, principal, project_id, Permission.SECRET_WRITE)


@open_to(Caller.TEAM_MEMBER)
def _team_reader(team_id: str, principal: CurrentPrincipal, session: DbSession) -> Team:
    return teams.get_team(session, principal=principal, team=team_id)


@open_to(Caller.TEAM_OWNER)
def _team_owner(team_id: str, principal: CurrentPrincipal, session: DbSession) -> Team:
    return teams.get_owned_team(session, principal=principal, team=team_id)


ProjectReader = Annotated[Project, Depends(_reader)]
ProjectAdmin = Annotated[Project, Depends(_admin)]
ProjectGoverned = Annotated[Project, Depends(_governed)]
SecretReader = Annotated[Project, Depends(_secret_reader)]
SecretWriter = Annotated[Project, Depends(_secret_writer)]
TeamReader = Annotated[Team, Depends(_team_reader)]
TeamOwner = Annotated[Team, Depends(_team_owner)]
