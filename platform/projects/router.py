"""Routes of projects and their members."""

from fastapi import APIRouter

from ..auth.deps import CurrentPrincipal, OncePerKey
from ..auth.needs import needs, shows
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.pagination import Page
from . import quotas, service
from .deps import ProjectAdmin, ProjectGoverned, ProjectReader
from .schemas import MemberRead, MemberWrite, ProjectCreate, ProjectRead, ProjectUpdate, QuotaLimits, UsageRead

router = APIRouter(prefix="/projects", tags=["projects"])


@router.post("", status_code=201)
@needs(Permission.PROJECT_CREATE)
def create_project(
    data: ProjectCreate, session: DbSession, principal: CurrentPrincipal, key: OncePerKey
) -> ProjectRead:
    """Make a project that the caller owns."""

    def create() -> ProjectRead:
        return ProjectRead.model_validate(service.create_project(session, principal=principal, data=data))

    return key.once(session, data, ProjectRead, create)


@router.get("")
@shows(Permission.PROJECT_READ)
def list_projects(session: DbSession, principal: CurrentPrincipal, query: Paging) -> Page[ProjectRead]:
    """List the projects that the caller may see."""
    return service.list_projects(session, principal=principal, query=query).map(ProjectRead.model_validate)


@router.patch("/{project_id}")
def update_project(data: ProjectUpdate, project: ProjectAdmin, session: DbSession) -> ProjectRead:
    """Change a project."""
    return ProjectRead.model_validate(service.update_project(session, project=project, data=data))


@router.delete("/{project_id}", status_code=204)
def delete_project(project: ProjectAdmin, session: DbSession) -> None:
    """Remove an empty project."""
    service.delete_project(session, project)


@router.post("/{project_id}/archive")
def archive_project(project: ProjectAdmin, session: DbSession) -> ProjectRead:
    """Freeze a project: reads and its endpoints go on, changes are refused."""
    return ProjectRead.model_validate(service.archive_project(session, project))


@router.post("/{project_id}/restore")
def restore_project(project: ProjectAdmin, session: DbSession) -> ProjectRead:
    """Let an archived project change again."""
    return ProjectRead.model_validate(service.restore_project(session, project))


@router.get("/{project_id}/usage")
def get_project_usage(project: ProjectReader, session: DbSession, resources: AppResources) -> UsageRead:
    """Return what a project uses of its quotas."""
    return quotas.read_usage(session, project=project, defaults=resources.settings.quotas)


@router.put("/{project_id}/quotas")
def set_project_quotas(
    data: QuotaLimits, project: ProjectGoverned, session: DbSession, resources: AppResources
) -> UsageRead:
    """Give a project quotas of its own; for administrators of the platform."""
    quotas.set_limits(session, project=project, data=data)
    return quotas.read_usage(session, project=project, defaults=resources.settings.quotas)


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
