"""The rules of projects: names, members, and who may do what inside."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from sqlalchemy import or_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, false, select, true

from ..auth import service as accounts
from ..auth.permissions import GLOBAL_ROLES, GlobalRole, Permission, ProjectRole
from ..auth.schemas import Principal
from ..auth.users import User
from ..kernel.acting import concern
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.errors import NotFound, PermissionDenied
from ..kernel.events import record
from ..kernel.ids import check_name, new_id
from ..kernel.pagination import Page, PageQuery, paginate
from . import rights
from .errors import (
    CreationDenied,
    JoiningDenied,
    LastOwner,
    MemberNotFound,
    ProjectArchived,
    ProjectNameTaken,
    ProjectNotEmpty,
    ProjectNotFound,
    ProjectRequired,
)
from .events import MembershipChanged
from .models import Project, ProjectMember
from .schemas import MemberRead, ProjectCreate, ProjectSettings, ProjectUpdate

# Refused in an archived project; who may enter it, by membership and by keys, can still be changed.
_CHANGES = frozenset(
    {
        Permission.DATASET_WRITE,
        Permission.MODEL_WRITE,
        Permission.RUN_WRITE,
        Permission.JOB_WRITE,
        Permission.DEPLOYMENT_WRITE,
        Permission.DEPLOYMENT_PRODUCTION,
        Permission.SECRET_WRITE,
    }
)


class OfProject(Protocol):
    """A row of one project."""

    project_id: str


Owned = TypeVar("Owned", bound=OfProject)


def create_project(session: Session, *, principal: Principal, data: ProjectCreate) -> Project:
    """Make a project that the caller owns.

    Raises:
        CreationDenied: If the caller's global role may not.
        ValidationFailed: If the name breaks the rule.
        ProjectNameTaken: If the name is in use.
    """
    if Permission.PROJECT_CREATE not in principal.platform_permissions:
        raise CreationDenied(Permission.PROJECT_CREATE.value)
    project = Project(id=new_id("prj"), name=check_name(data.name), description=data.description)
    project.settings = data.settings.model_dump()
    with unless_refused(session, ProjectNameTaken(f"The project name {data.name!r} is taken; choose another.")):
        session.add(project)
    set_member(session, project=project, user=principal.user_id, role=ProjectRole.OWNER)
    return project


def list_projects(session: Session, *, principal: Principal, query: PageQuery) -> Page[Project]:
    """Return the projects that the caller may see."""
    return paginate(session, Project, query, visible(principal, col(Project.id), Permission.PROJECT_READ))


def find_project(session: Session, project_id: str) -> Project | None:
    """Return a project without asking who wants it."""
    return session.get(Project, project_id)


def update_project(session: Session, *, project: Project, data: ProjectUpdate) -> Project:
    """Change the fields that were given.

    Raises:
        ProjectArchived: If the project is archived.
    """
    _refuse_archived(project)
    for field, value in data.model_dump(exclude_none=True).items():
        setattr(project, field, value)
    return _touched(session, project)


def archive_project(session: Session, project: Project) -> Project:
    """Freeze a project: what is in it can be read and its endpoints answer, and nothing in it changes."""
    project.archived_at = project.archived_at or utc_now()
    return _touched(session, project)


def restore_project(session: Session, project: Project) -> Project:
    """Let an archived project change again."""
    project.archived_at = None
    return _touched(session, project)


def settings_of(session: Session, project_id: str) -> ProjectSettings:
    """Return the settings of a project.

    Raises:
        ProjectNotFound: If there is none.
    """
    project = find_project(session, project_id)
    if project is None:
        raise ProjectNotFound(project_id)
    return ProjectSettings.model_validate(project.settings)


def delete_project(session: Session, project: Project) -> None:
    """Remove an empty project.

    Raises:
        ProjectNotEmpty: If something is left in it; the message names what.
    """
    try:
        with session.begin_nested():
            session.delete(project)
    except IntegrityError as error:
        remaining = _remaining(error)
        raise ProjectNotEmpty(
            f"The project {project.name!r} still holds at least one {remaining.replace('_', ' ')}; delete that first.",
            details={"remaining": remaining},
        ) from error
    record(session, MembershipChanged(project_id=project.id))


def list_members(session: Session, *, project_id: str, query: PageQuery) -> Page[MemberRead]:
    """Return the members of a project, the newest first."""
    page = paginate(session, ProjectMember, query, col(ProjectMember.project_id) == project_id)
    people = accounts.accounts_by_id(session, [member.user_id for member in page.items])
    return page.map(lambda member: _read(member, email=people[member.user_id].email, name=people[member.user_id].name))


def set_member(session: Session, *, project: Project, user: str, role: ProjectRole) -> MemberRead:
    """Give an account, named by its id or its email, a role in a project.

    Raises:
        MemberNotFound: If there is no such account.
        JoiningDenied: If its global role may not join projects.
        LastOwner: If the only owner would lose that role.
    """
    account = account_to_join(session, user)
    _lock_members(session, project.id)
    member = _find_member(session, project.id, account.id)
    if member is None:
        member = ProjectMember(id=new_id("mem"), project_id=project.id, user_id=account.id, role=role)
    elif role is not ProjectRole.OWNER:
        _keep_an_owner(session, member)
    member.role = role
    session.add(member)
    session.flush()
    record(session, MembershipChanged(project_id=project.id))
    return _read(member, email=account.email, name=account.name)


def account_to_join(session: Session, user: str) -> User:
    """Return the account, named by its id or its email, that may become a member of projects and teams.

    Raises:
        MemberNotFound: If there is no such account.
        JoiningDenied: If it is a guest's.
    """
    account = accounts.find_account(session, user)
    if account is None or account.disabled_at is not None:
        raise MemberNotFound(f"There is no account {user!r}.")
    if Permission.PROJECT_JOIN not in GLOBAL_ROLES[GlobalRole(account.role)]:
        raise JoiningDenied(account.email, account.role)
    return account


def remove_member(session: Session, *, project: Project, user: str) -> None:
    """Take an account, named by its id or its email, out of a project.

    Raises:
        MemberNotFound: If it is no member.
        LastOwner: If it is the only owner.
    """
    account = accounts.find_account(session, user)
    _lock_members(session, project.id)
    member = _find_member(session, project.id, account.id) if account else None
    if member is None:
        raise MemberNotFound(f"{user!r} is not a member of {project.name!r}.")
    _keep_an_owner(session, member)
    session.delete(member)
    record(session, MembershipChanged(project_id=project.id))


def project_ids_of(session: Session, user_id: str) -> list[str]:
    """Return the ids of the projects that an account is a member of, directly or by team."""
    return list(session.execute(rights.projects_of(user_id)).scalars())


def member_permissions(session: Session, project_id: str) -> dict[str, frozenset[Permission]]:
    """Map the account id of each member, direct or by team, to what the member may do in the project."""
    return rights.held_by_members(session, project_id)


def members_among(session: Session, project_ids: Iterable[str], user_ids: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Return the pairs of a project and an account that is a member of it, directly or by team."""
    return rights.members_among(session, project_ids, user_ids)


def permissions_in(session: Session, principal: Principal, project_id: str) -> frozenset[Permission]:
    """Return what the principal may do in the project; empty for a stranger."""
    if principal.is_admin:
        return frozenset(Permission)
    return permissions_by_membership(session, principal, project_id)


def permissions_by_project(
    session: Session, principal: Principal, project_ids: Iterable[str]
) -> dict[str, frozenset[Permission]]:
    """Map each of the projects to what the principal may do in it; asks the database once for all of them."""
    if principal.is_admin or principal.kind != "user":
        return {project_id: permissions_in(session, principal, project_id) for project_id in project_ids}
    held = rights.held_by_account(session, principal.user_id)
    return {project_id: held.get(project_id, frozenset()) for project_id in project_ids}


def permissions_by_membership(session: Session, principal: Principal, project_id: str) -> frozenset[Permission]:
    """Return what the principal may do in the project without the rights of an administrator."""
    if principal.project_id not in (None, project_id):
        return frozenset()
    if principal.kind == "job":
        return principal.permissions or frozenset()
    held = rights.held_by_member(session, project_id, principal.user_id)
    return held if principal.permissions is None else held & principal.permissions


def authorize(session: Session, principal: Principal, project_id: str, permission: Permission) -> Project:
    """Return the project when the principal holds the permission in it.

    Raises:
        ProjectNotFound: If it does not exist, or the principal has no right in it at all.
        PermissionDenied: If this one right is missing; the message names it.
        ProjectArchived: If the permission is one to change what is in the project, and that is archived.
    """
    project = find_project(session, project_id)
    if project is not None:
        concern(project.id)
    held = permissions_in(session, principal, project_id)
    if project is None or not held:
        raise ProjectNotFound(project_id)
    if permission not in held:
        raise PermissionDenied(
            f"This needs the permission {permission.value!r} in project {project.name!r}.",
            details={"permission": permission.value},
        )
    # What a job began before the project was archived, it may finish.
    if permission in _CHANGES and principal.kind != "job":
        _refuse_archived(project)
    return project


def choose_project(
    session: Session, principal: Principal, named: str | None, permission: Permission, *, by: str = "project_id"
) -> Project:
    """Return the project that a request is about: the one it names by id or name, else the only one it can mean.

    Args:
        session: The transaction.
        principal: Who asks.
        named: What the request says.
        permission: What it needs there.
        by: Where the request can say it, for the message.

    Raises:
        ProjectRequired: If none is named and the principal is an account with no project or with several.
        ProjectNotFound: If the principal has no right in the named project.
        PermissionDenied: If this one right is missing.
    """
    if named is None:
        only = principal.project_id or _only_project(session, principal, by)
        return authorize(session, principal, only, permission)
    statement = select(Project).where(or_(col(Project.id) == named, col(Project.name) == named))
    found = session.exec(statement).one_or_none()
    try:
        return authorize(session, principal, found.id if found else named, permission)
    except ProjectNotFound as error:
        # In the caller's own words: the id behind a name is for those who may know of the project.
        raise ProjectNotFound(named) from error


def authorize_owned(
    session: Session, principal: Principal, row: Owned | None, permission: Permission, *, missing: NotFound
) -> Owned:
    """Return a project's row when the principal holds the permission in that project.

    Raises:
        NotFound: ``missing``, if there is no row or its project is one of strangers.
        PermissionDenied: If this one right is missing.
    """
    if row is None:
        raise missing
    try:
        authorize(session, principal, row.project_id, permission)
    except ProjectNotFound as error:
        raise missing from error
    return row


def visible(
    principal: Principal, project_id: Mapped[str] | Mapped[str | None], permission: Permission
) -> ColumnElement[bool]:
    """Build the filter that keeps the rows of projects in which the principal holds the permission."""
    if principal.is_admin:
        return true()
    if principal.permissions is not None and permission not in principal.permissions:
        return false()
    if principal.kind == "job":
        return project_id == principal.project_id
    mine = rights.projects_of(principal.user_id, permission)
    if principal.project_id is not None:
        mine = mine.where(mine.selected_columns.project_id == principal.project_id)
    return project_id.in_(mine)


def _refuse_archived(project: Project) -> None:
    if project.archived_at is not None:
        raise ProjectArchived(project.name)


def _touched(session: Session, project: Project) -> Project:
    project.updated_at = utc_now()
    session.add(project)
    return project


def is_last_of(session: Session, owners: Iterable[str], leaving: str) -> bool:
    """Tell whether an owner leaves no other behind whose account is alive."""
    ids = set(owners)
    others = accounts.accounts_by_id(session, ids - {leaving}).values()
    return leaving in ids and all(other.disabled_at is not None for other in others)


def _read(member: ProjectMember, *, email: str, name: str) -> MemberRead:
    return MemberRead(
        user_id=member.user_id, email=email, name=name, role=ProjectRole(member.role), created_at=member.created_at
    )


def _remaining(error: IntegrityError) -> str:
    """Name the table whose rows still point at the project."""
    diagnosis = getattr(error.orig, "diag", None)
    return str(getattr(diagnosis, "table_name", None) or "object")


def _lock_members(session: Session, project_id: str) -> None:
    """Let one change of members at a time through, without holding up rows that merely refer to the project."""
    locked = select(Project.id).where(Project.id == project_id).with_for_update(key_share=True)
    if session.exec(locked).one_or_none() is None:
        raise ProjectNotFound(project_id)


def _only_project(session: Session, principal: Principal, by: str) -> str:
    found: list[str] = list(session.execute(rights.projects_of(principal.user_id).limit(2)).scalars())
    if len(found) == 1:
        return found[0]
    have = "are a member of several projects" if found else "are a member of no project"
    raise ProjectRequired(f"You {have}: name the one that is meant by {by}.")


def _find_member(session: Session, project_id: str, user_id: str) -> ProjectMember | None:
    return session.exec(
        select(ProjectMember).where(ProjectMember.project_id == project_id, ProjectMember.user_id == user_id)
    ).one_or_none()


def _keep_an_owner(session: Session, leaving: ProjectMember) -> None:
    owners = session.exec(
        select(ProjectMember.user_id).where(
            ProjectMember.project_id == leaving.project_id, ProjectMember.role == ProjectRole.OWNER
        )
    )
    if is_last_of(session, owners, leaving.user_id):
        raise LastOwner("A project needs an owner: give somebody else that role first.")
