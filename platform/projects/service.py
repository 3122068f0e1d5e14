"""The rules of projects: names, members, and who may do what inside."""

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, select, true

from ..auth import service as accounts
from ..auth.errors import SessionEnded
from ..auth.permissions import MAY_CREATE_PROJECTS, ROLES, Permission, ProjectRole
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.errors import PermissionDenied
from ..kernel.events import record
from ..kernel.ids import check_name, new_id
from ..kernel.pagination import Page, PageQuery, paginate
from .errors import (
    LastOwner,
    MemberNotFound,
    ProjectCreationDenied,
    ProjectNameTaken,
    ProjectNotEmpty,
    ProjectNotFound,
)
from .events import MembershipChanged
from .models import Project, ProjectMember
from .schemas import ProjectCreate, ProjectUpdate


def create_project(session: Session, *, principal: Principal, data: ProjectCreate) -> Project:
    """Make a project that the caller owns.

    Raises:
        ProjectCreationDenied: If the caller's global role may not.
        ValidationFailed: If the name breaks the rule.
        ProjectNameTaken: If the name is in use.
    """
    if principal.kind != "user" or principal.global_role not in MAY_CREATE_PROJECTS:
        raise ProjectCreationDenied(f"Your role {principal.global_role!r} may not create projects.")
    project = Project(id=new_id("prj"), name=check_name(data.name), description=data.description)
    try:
        with session.begin_nested():
            session.add(project)
    except IntegrityError as error:
        raise ProjectNameTaken(f"The project name {data.name!r} is taken; choose another.") from error
    set_member(session, project=project, user_id=principal.user_id, role=ProjectRole.OWNER)
    return project


def list_projects(session: Session, *, principal: Principal, query: PageQuery) -> Page[Project]:
    """Return the projects that the caller may see."""
    return paginate(session, Project, query, visible(principal, col(Project.id), Permission.PROJECT_READ))


def find_project(session: Session, project_id: str) -> Project | None:
    """Return a project without asking who wants it."""
    return session.get(Project, project_id)


def update_project(session: Session, *, project: Project, data: ProjectUpdate) -> Project:
    """Change the fields that were given."""
    for field, value in data.model_dump(exclude_none=True).items():
        setattr(project, field, value)
    project.updated_at = utc_now()
    session.add(project)
    return project


def delete_project(session: Session, project: Project) -> None:
    """Remove an empty project.

    Raises:
        ProjectNotEmpty: If datasets, models, jobs or deployments are left.
    """
    try:
        with session.begin_nested():
            session.delete(project)
    except IntegrityError as error:
        raise ProjectNotEmpty(
            f"The project {project.name!r} still holds datasets, models, jobs or deployments; delete those first."
        ) from error
    record(session, MembershipChanged(project_id=project.id))


def list_members(session: Session, project_id: str) -> list[ProjectMember]:
    """Return the members of a project, oldest first."""
    members = select(ProjectMember).where(ProjectMember.project_id == project_id).order_by(ProjectMember.id)
    return list(session.exec(members))


def set_member(session: Session, *, project: Project, user_id: str, role: ProjectRole) -> ProjectMember:
    """Give an account a role in a project.

    Raises:
        MemberNotFound: If there is no such account.
        LastOwner: If the only owner would lose that role.
    """
    try:
        accounts.get_user(session, user_id)
    except SessionEnded as error:
        raise MemberNotFound(f"There is no account {user_id}.") from error
    member = _find_member(session, project.id, user_id)
    if member is None:
        member = ProjectMember(id=new_id("mem"), project_id=project.id, user_id=user_id, role=role)
    elif role is not ProjectRole.OWNER:
        _keep_an_owner(session, member)
    member.role = role
    session.add(member)
    session.flush()
    record(session, MembershipChanged(project_id=project.id))
    return member


def remove_member(session: Session, *, project: Project, user_id: str) -> None:
    """Take an account out of a project.

    Raises:
        MemberNotFound: If it is no member.
        LastOwner: If it is the only owner.
    """
    member = _find_member(session, project.id, user_id)
    if member is None:
        raise MemberNotFound(f"{user_id} is not a member of {project.name!r}.")
    _keep_an_owner(session, member)
    session.delete(member)
    record(session, MembershipChanged(project_id=project.id))


def member_permissions(session: Session, project_id: str) -> dict[str, frozenset[Permission]]:
    """Map each member's account id to what the member may do in the project."""
    return {member.user_id: ROLES[ProjectRole(member.role)] for member in list_members(session, project_id)}


def permissions_in(session: Session, principal: Principal, project_id: str) -> frozenset[Permission]:
    """Return what the principal may do in the project; empty for a stranger."""
    if principal.is_admin:
        return frozenset(Permission)
    if principal.project_id not in (None, project_id):
        return frozenset()
    if principal.kind == "job":
        return principal.permissions or frozenset()
    member = _find_member(session, project_id, principal.user_id)
    held = ROLES[ProjectRole(member.role)] if member else frozenset()
    return held if principal.permissions is None else held & principal.permissions


def authorize(session: Session, principal: Principal, project_id: str, permission: Permission) -> Project:
    """Return the project when the principal holds the permission in it.

    Raises:
        ProjectNotFound: If it does not exist, or the principal has no right in it at all.
        PermissionDenied: If this one right is missing; the message names it.
    """
    project = find_project(session, project_id)
    held = permissions_in(session, principal, project_id)
    if project is None or not held:
        raise ProjectNotFound(f"There is no project {project_id}.")
    if permission not in held:
        raise PermissionDenied(
            f"This needs the permission {permission.value!r} in project {project.name!r}.",
            details={"permission": permission.value},
        )
    return project


def visible(principal: Principal, project_id: Mapped[str], permission: Permission) -> ColumnElement[bool]:
    """Build the filter that keeps the rows of projects in which the principal holds the permission."""
    if principal.is_admin:
        return true()
    if principal.kind == "job":
        return project_id == principal.project_id
    roles = [role for role, held in ROLES.items() if permission in held]
    if principal.permissions is not None and permission not in principal.permissions:
        roles = []
    mine = select(ProjectMember.project_id).where(
        ProjectMember.user_id == principal.user_id, col(ProjectMember.role).in_(roles)
    )
    if principal.project_id is not None:
        mine = mine.where(ProjectMember.project_id == principal.project_id)
    return project_id.in_(mine)


def _find_member(session: Session, project_id: str, user_id: str) -> ProjectMember | None:
    return session.exec(
        select(ProjectMember).where(ProjectMember.project_id == project_id, ProjectMember.user_id == user_id)
    ).one_or_none()


def _keep_an_owner(session: Session, leaving: ProjectMember) -> None:
    owners = session.exec(
        select(ProjectMember)
        .where(ProjectMember.project_id == leaving.project_id, ProjectMember.role == ProjectRole.OWNER)
        .with_for_update()
    )
    if [owner.user_id for owner in owners] == [leaving.user_id]:
        raise LastOwner("A project needs an owner: give somebody else that role first.")
