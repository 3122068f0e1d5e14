"""What membership gives: a role in the project, held directly or by a team, as the one permission table reads it."""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Select, cast, literal, select, true, union, union_all
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, or_

from ..auth.permissions import ROLES, Permission, ProjectRole
from .models import ProjectMember, Team, TeamMember, TeamProject

__all__ = ["bounded", "held_by_account", "held_by_member", "held_by_members", "members_among", "projects_of"]

EVERYTHING = "*"


def held_by_members(session: Session, project_id: str) -> dict[str, frozenset[Permission]]:
    """Map the id of each account with a role in the project to what it may do there."""
    return {user: held for (_, user), held in _held(session, project_id=project_id).items()}


def held_by_member(session: Session, project_id: str, user_id: str) -> frozenset[Permission]:
    """Return what one account may do in the project; empty for a stranger."""
    return _held(session, project_id=project_id, user_id=user_id).get((project_id, user_id), frozenset())


def held_by_account(session: Session, user_id: str) -> dict[str, frozenset[Permission]]:
    """Map the id of each project that the account is a member of to what it may do there."""
    return {project: held for (project, _), held in _held(session, user_id=user_id).items()}


def members_among(session: Session, project_ids: Iterable[str], user_ids: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Return the pairs of a project and an account that is a member of it, directly or by team."""
    projects, users = list(project_ids), list(user_ids)
    direct = select(col(ProjectMember.project_id), col(ProjectMember.user_id)).where(
        col(ProjectMember.project_id).in_(projects), col(ProjectMember.user_id).in_(users)
    )
    by_team = (
        select(col(TeamProject.project_id), col(TeamMember.user_id))
        .join(TeamMember, col(TeamMember.team_id) == col(TeamProject.team_id))
        .where(col(TeamProject.project_id).in_(projects), col(TeamMember.user_id).in_(users))
    )
    return frozenset((project, user) for project, user in session.execute(union(direct, by_team)))


def projects_of(user_id: str, permission: Permission | None = None) -> Select[tuple[str]]:
    """Select the ids of the projects that the account is a member of, and in which it holds the permission if any."""
    roles = [role for role, held in ROLES.items() if permission is None or permission in held]
    direct = select(col(ProjectMember.project_id)).where(
        col(ProjectMember.user_id) == user_id, col(ProjectMember.role).in_(roles)
    )
    by_team = (
        select(col(TeamProject.project_id))
        .join(TeamMember, col(TeamMember.team_id) == col(TeamProject.team_id))
        .join(Team, col(Team.id) == col(TeamProject.team_id))
        .where(col(TeamMember.user_id) == user_id, col(TeamProject.role).in_(roles), _allows(permission))
    )
    both = union(direct, by_team).subquery()
    return select(both.c.project_id)


def bounded(role: str, bound: Iterable[str]) -> frozenset[Permission]:
    """Return what a role gives to the members of a team with these permissions."""
    held, allowed = ROLES[ProjectRole(role)], frozenset(bound)
    return held if EVERYTHING in allowed else frozenset(one for one in held if one.value in allowed)


def _held(
    session: Session, *, project_id: str | None = None, user_id: str | None = None
) -> dict[tuple[str, str], frozenset[Permission]]:
    """Map pairs of a project and an account to what membership gives; of one project, one account, or one pair."""
    everything = cast(literal([EVERYTHING], JSONB), JSONB)
    direct = select(col(ProjectMember.project_id), col(ProjectMember.user_id), col(ProjectMember.role), everything)
    by_team = (
        select(col(TeamProject.project_id), col(TeamMember.user_id), col(TeamProject.role), col(Team.permissions))
        .join(TeamMember, col(TeamMember.team_id) == col(TeamProject.team_id))
        .join(Team, col(Team.id) == col(TeamProject.team_id))
    )
    if project_id is not None:
        direct = direct.where(col(ProjectMember.project_id) == project_id)
        by_team = by_team.where(col(TeamProject.project_id) == project_id)
    if user_id is not None:
        direct = direct.where(col(ProjectMember.user_id) == user_id)
        by_team = by_team.where(col(TeamMember.user_id) == user_id)
    held: dict[tuple[str, str], frozenset[Permission]] = defaultdict(frozenset)
    for project, member, role, bound in session.execute(union_all(direct, by_team)):
        held[project, member] |= bounded(role, bound)
    return dict(held)


def _allows(permission: Permission | None) -> ColumnElement[bool]:
    if permission is None:
        return true()
    bound = cast(col(Team.permissions), JSONB)
    return or_(bound.contains([EVERYTHING]), bound.contains([permission.value]))
