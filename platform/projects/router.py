"""Routes of projects and their members."""

from fastapi import APIRouter

from ..auth.deps import CurrentPrincipal, OncePerKey
from ..kernel.deps import DbSession, Paging
from ..kernel.pagination import Page
from . import service
from .deps import ProjectAdmin, ProjectReader
from .schemas import MemberRead, MemberWrite, ProjectCreate, ProjectRead, ProjectUpdate

router = APIRouter(prefix="/projects", tags=["projects"])


@router.post("", status_code=201)
def create_project(
    data: ProjectCreate, session: DbSession, principal: CurrentPrincipal, key: OncePerKey
) -> ProjectRead:
    """Make a project that the caller owns."""

    def create() -> ProjectRead:
        return ProjectRead.model_validate(service.create_project(session, principal=principal, data=data))

    return key.once(session, data, ProjectRead, create)


@router.get("")
def list_projects(session: DbSession, principal: CurrentPrincipal, query: Paging) -> Page[ProjectRead]:
    """List the projects that the caller may see."""
    return service.list_projects(session, principal=principal, query=query).map(ProjectRead.model_validate)


@router.get("/{project_id}")
def get_project(project: ProjectReader) -> ProjectRead:
    """Return one project."""
    return ProjectRead.model_validate(project)


@router.patch("/{project_id}")
def update_project(data: ProjectUpdate, project: ProjectAdmin, session: DbSession) -> ProjectRead:
    """Change a project."""
    return ProjectRead.model_validate(service.update_project(session, project=project, data=data))


@router.delete("/{project_id}", status_code=204)
def delete_project(project: ProjectAdmin, session: DbSession) -> None:
    """Remove an empty project."""
    service.delete_project(session, project)


@router.get("/{project_id}/members")
def list_members(project: ProjectReader, session: DbSession, query: Paging) -> Page[MemberRead]:
    """List the members of a project."""
    return service.list_members(session, project_id=project.id, query=query)


@router.put("/{project_id}/members/{user}")
def set_member(user: str, data: MemberWrite, project: ProjectAdmin, session: DbSession) -> MemberRead:
    """Give an account, named by its id or its email, a role in a project."""
    return service.set_member(session, project=project, user=user, role=data.role)


@router.delete("/{project_id}/members/{user}", status_code=204)
def remove_member(user: str, project: ProjectAdmin, session: DbSession) -> None:
    """Take an account, named by its id or its email, out of a project."""
    service.remove_member(session, project=project, user=user)
