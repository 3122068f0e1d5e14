"""Routes of teams, and of their roles in projects."""

from fastapi import APIRouter

from ..auth.deps import CurrentPrincipal
from ..auth.needs import Caller, needs, open_to
from ..auth.permissions import Permission
from ..kernel.deps import DbSession, Paging
from ..kernel.pagination import Page
from . import teams
from .deps import ProjectAdmin, ProjectReader, TeamOwner, TeamReader
from .schemas import (
    MemberWrite,
    TeamCreate,
    TeamMemberRead,
    TeamMemberWrite,
    TeamOfProject,
    TeamRead,
    TeamUpdate,
)

router = APIRouter(tags=["teams"])


@router.post("/teams", status_code=201)
@needs(Permission.TEAM_CREATE)
def create_team(data: TeamCreate, session: DbSession, principal: CurrentPrincipal) -> TeamRead:
    """Make a team that the caller owns."""
    team = teams.create_team(session, principal=principal, data=data)
    return teams.describe_teams(session, principal=principal, teams=[team])[0]


@router.get("/teams")
@open_to(Caller.ACCOUNT)
def list_teams(session: DbSession, principal: CurrentPrincipal, query: Paging) -> Page[TeamRead]:
    """List the teams that the caller is in; an administrator sees all."""
    page = teams.list_teams(session, principal=principal, query=query)
    shown = teams.describe_teams(session, principal=principal, teams=page.items)
    return Page(items=shown, next_cursor=page.next_cursor)


@router.get("/teams/{team_id}")
def get_team(team: TeamReader, session: DbSession, principal: CurrentPrincipal) -> TeamRead:
    """Return a team, named by its id or its name."""
    return teams.describe_teams(session, principal=principal, teams=[team])[0]


@router.patch("/teams/{team_id}")
def update_team(data: TeamUpdate, team: TeamOwner, session: DbSession, principal: CurrentPrincipal) -> TeamRead:
    """Change a team."""
    changed = teams.update_team(session, team=team, data=data)
    return teams.describe_teams(session, principal=principal, teams=[changed])[0]


@router.delete("/teams/{team_id}", status_code=204)
def delete_team(team: TeamOwner, session: DbSession) -> None:
    """Remove a team; its members lose what they had by it."""
    teams.delete_team(session, team)


@router.put("/teams/{team_id}/members/{user}")
def set_team_member(user: str, data: TeamMemberWrite, team: TeamOwner, session: DbSession) -> TeamMemberRead:
    """Put an account, named by its id or its email, into a team."""
    return teams.set_team_member(session, team=team, user=user, role=data.role)


@router.delete("/teams/{team_id}/members/{user}", status_code=204)
def remove_team_member(user: str, team: TeamOwner, session: DbSession) -> None:
    """Take an account, named by its id or its email, out of a team."""
    teams.remove_team_member(session, team=team, user=user)


@router.get("/projects/{project_id}/teams")
def list_project_teams(project: ProjectReader, session: DbSession) -> list[TeamOfProject]:
    """List the teams that have a role in a project."""
    return teams.list_project_teams(session, project.id)


@router.put("/projects/{project_id}/teams/{team}", status_code=204)
def set_project_team(
    team: str, data: MemberWrite, project: ProjectAdmin, session: DbSession, principal: CurrentPrincipal
) -> None:
    """Give a team that the caller is in, named by its id or its name, a role in a project."""
    teams.set_project_team(session, principal=principal, project=project, team=team, role=data.role)


@router.delete("/projects/{project_id}/teams/{team}", status_code=204)
def remove_project_team(team: str, project: ProjectAdmin, session: DbSession) -> None:
    """Take a team, named by its id or its name, out of a project."""
    teams.remove_project_team(session, project=project, team=team)
