"""The rules of teams: who is in them, and which role a team has in which project."""

from typing import Any

from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, false, or_, select

from ..auth import service as accounts
from ..auth.permissions import Permission, ProjectRole
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.events import record
from ..kernel.ids import check_name, new_id
from ..kernel.pagination import Page, PageQuery, paginate
from . import rights
from .errors import (
    CreationDenied,
    LastTeamOwner,
    MemberNotFound,
    TeamNameTaken,
    TeamNotFound,
    TeamOwnerRequired,
)
from .events import MembershipChanged
from .models import Project, Team, TeamMember, TeamProject
from .schemas import (
    TeamCreate,
    TeamMemberRead,
    TeamOfProject,
    TeamProjectRead,
    TeamRead,
    TeamUpdate,
)
from .service import account_to_join, is_last_of

OWNER = "owner"


def create_team(session: Session, *, principal: Principal, data: TeamCreate) -> Team:
    """Make a team that the caller owns.

    Raises:
        CreationDenied: If the caller's global role may make neither projects nor teams.
        TeamNameTaken: If the name is in use.
    """
    if Permission.TEAM_CREATE not in principal.platform_permissions:
        raise CreationDenied(Permission.TEAM_CREATE.value)
    fields = data.model_dump(mode="json") | {"name": check_name(data.name)}
    team = Team(id=new_id("team"), **fields)
    with unless_refused(session, TeamNameTaken(f"The team name {data.name!r} is taken; choose another.")):
        session.add(team)
    session.add(TeamMember(id=new_id("tmm"), team_id=team.id, user_id=principal.user_id, role=OWNER))
    session.flush()
    return team


def list_teams(session: Session, *, principal: Principal, query: PageQuery) -> Page[Team]:
    """Return the teams that the caller is in; an administrator sees all, the key of a project none."""
    filters: list[ColumnElement[bool]] = [] if principal.is_admin else [col(Team.id).in_(_of(principal.user_id))]
    if principal.project_id is not None:
        filters = [false()]
    return paginate(session, Team, query, *filters)


def get_team(session: Session, *, principal: Principal, team: str) -> Team:
    """Return the team of this id or name when the caller is in it.

    Raises:
        TeamNotFound: If it does not exist, or not for this caller.
    """
    statement = select(Team).where(or_(col(Team.id) == team, col(Team.name) == team))
    if not principal.is_admin:
        statement = statement.where(col(Team.id).in_(_of(principal.user_id)))
    found = None if principal.project_id else session.exec(statement).first()
    if found is None:
        raise TeamNotFound(team)
    return found


def get_owned_team(session: Session, *, principal: Principal, team: str) -> Team:
    """Return the team of this id or name when the caller may change it.

    Raises:
        TeamNotFound: If it does not exist, or not for this caller.
        TeamOwnerRequired: If the caller is a mere member.
    """
    found = get_team(session, principal=principal, team=team)
    own = find_member(session, found.id, principal.user_id)
    if not principal.is_admin and (own is None or own.role != OWNER):
        raise TeamOwnerRequired(found.name)
    return found


def find_member(session: Session, team_id: str, user_id: str) -> TeamMember | None:
    """Return an account's place in a team, if it has one."""
    mine = select(TeamMember).where(TeamMember.team_id == team_id, TeamMember.user_id == user_id)
    return session.exec(mine).one_or_none()


def update_team(session: Session, *, team: Team, data: TeamUpdate) -> Team:
    """Change the fields that were given."""
    for field, value in data.model_dump(mode="json", exclude_none=True).items():
        setattr(team, field, value)
    _changed(session, team)
    return team


def delete_team(session: Session, team: Team) -> None:
    """Remove a team; its members lose what they had by it."""
    _changed(session, team)
    session.delete(team)


def set_team_member(session: Session, *, team: Team, user: str, role: str) -> TeamMemberRead:
    """Put an account, named by its id or its email, into a team, or change its place there.

    Raises:
        MemberNotFound: If there is no such account.
        JoiningDenied: If its global role may not join teams.
        LastTeamOwner: If the only owner would lose that place.
    """
    account = account_to_join(session, user)
    _lock(session, team)
    member = find_member(session, team.id, account.id)
    if member is None:
        member = TeamMember(id=new_id("tmm"), team_id=team.id, user_id=account.id, role=role)
    elif role != OWNER:
        _keep_an_owner(session, member)
    member.role = role
    session.add(member)
    _changed(session, team)
    return TeamMemberRead(user_id=account.id, email=account.email, name=account.name, role=role)


def remove_team_member(session: Session, *, team: Team, user: str) -> None:
    """Take an account, named by its id or its email, out of a team.

    Raises:
        MemberNotFound: If it is not in the team.
        LastTeamOwner: If it is the only owner.
    """
    account = accounts.find_account(session, user)
    _lock(session, team)
    member = find_member(session, team.id, account.id) if account else None
    if member is None:
        raise MemberNotFound(f"{user!r} is not in the team {team.name!r}.")
    _keep_an_owner(session, member)
    session.delete(member)
    _changed(session, team)


def list_project_teams(session: Session, project_id: str) -> list[TeamOfProject]:
    """Return the teams that have a role in a project, by name."""
    rows = session.exec(
        select(TeamProject, Team).join(Team).where(TeamProject.project_id == project_id).order_by(col(Team.name))
    )
    return [TeamOfProject(team_id=team.id, name=team.name, role=ProjectRole(held.role)) for held, team in rows]


def set_project_team(session: Session, *, principal: Principal, project: Project, team: str, role: ProjectRole) -> None:
    """Give a team that the caller is in a role in a project.

    Raises:
        TeamNotFound: If it does not exist, or not for this caller.
    """
    found = get_team(session, principal=principal, team=team)
    _lock(session, found)
    held = _find_role(session, project.id, found.id)
    held = held or TeamProject(id=new_id("tmp"), team_id=found.id, project_id=project.id, role=role)
    held.role = role
    session.add(held)
    record(session, MembershipChanged(project_id=project.id))


def remove_project_team(session: Session, *, project: Project, team: str) -> None:
    """Take a team, named by its id or its name, out of a project.

    Raises:
        TeamNotFound: If it has no role there.
    """
    named = or_(col(Team.id) == team, col(Team.name) == team)
    statement = select(TeamProject).join(Team).where(TeamProject.project_id == project.id, named)
    held = session.exec(statement).first()
    if held is None:
        raise TeamNotFound(team)
    session.delete(held)
    record(session, MembershipChanged(project_id=project.id))


def describe_teams(session: Session, *, principal: Principal, teams: list[Team]) -> list[TeamRead]:
    """Show teams with their members and those of their projects that the caller may see."""
    ids = [team.id for team in teams]
    members, projects = _members(session, ids), _projects(session, principal, teams)
    return [
        TeamRead.model_validate(
            team.model_dump() | {"members": members.get(team.id, []), "projects": projects.get(team.id, [])}
        )
        for team in teams
    ]


def teams_of(session: Session, user_id: str) -> list[Team]:
    """Return the teams that an account is in, by name."""
    return list(session.exec(select(Team).where(col(Team.id).in_(_of(user_id))).order_by(col(Team.name))))


def _of(user_id: str) -> Any:
    return select(TeamMember.team_id).where(TeamMember.user_id == user_id)


def _members(session: Session, team_ids: list[str]) -> dict[str, list[TeamMemberRead]]:
    rows = list(
        session.exec(select(TeamMember).where(col(TeamMember.team_id).in_(team_ids)).order_by(col(TeamMember.id)))
    )
    people = accounts.accounts_by_id(session, {row.user_id for row in rows})
    found: dict[str, list[TeamMemberRead]] = {}
    for row in rows:
        person = people[row.user_id]
        read = {"user_id": person.id, "email": person.email, "name": person.name, "role": row.role}
        found.setdefault(row.team_id, []).append(TeamMemberRead.model_validate(read))
    return found


def _projects(session: Session, principal: Principal, teams: list[Team]) -> dict[str, list[TeamProjectRead]]:
    bounds = {team.id: team.permissions for team in teams}
    statement = select(TeamProject, Project).join(Project).where(col(TeamProject.team_id).in_(bounds))
    if not principal.is_admin:
        statement = statement.where(col(Project.id).in_(rights.projects_of(principal.user_id, Permission.PROJECT_READ)))
    found: dict[str, list[TeamProjectRead]] = {}
    for held, project in session.exec(statement.order_by(col(Project.name))):
        read = TeamProjectRead(
            project_id=project.id,
            name=project.name,
            role=ProjectRole(held.role),
            permissions=sorted(rights.bounded(held.role, bounds[held.team_id])),
        )
        found.setdefault(held.team_id, []).append(read)
    return found


def _find_role(session: Session, project_id: str, team_id: str) -> TeamProject | None:
    held = select(TeamProject).where(TeamProject.project_id == project_id, TeamProject.team_id == team_id)
    return session.exec(held).one_or_none()


def _lock(session: Session, team: Team) -> None:
    """Let one change of a team's members and roles at a time through."""
    locked = select(Team.id).where(Team.id == team.id).with_for_update(key_share=True)
    if session.exec(locked).one_or_none() is None:
        raise TeamNotFound(team.id)


def _keep_an_owner(session: Session, leaving: TeamMember) -> None:
    owners = select(TeamMember.user_id).where(TeamMember.team_id == leaving.team_id, TeamMember.role == OWNER)
    if is_last_of(session, session.exec(owners), leaving.user_id):
        raise LastTeamOwner


def _changed(session: Session, team: Team) -> None:
    """Note the change, and tell every project of the team that its members are others."""
    team.updated_at = utc_now()
    session.add(team)
    session.flush()
    for project_id in session.exec(select(TeamProject.project_id).where(TeamProject.team_id == team.id)):
        record(session, MembershipChanged(project_id=project_id))
