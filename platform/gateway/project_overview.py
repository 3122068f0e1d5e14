"""A project at a glance: what it holds, put together from the slices; a query for each of them."""

from fastapi import APIRouter
from sqlmodel import Session

from ..auth.deps import CurrentPrincipal
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..data.service import glance_at_datasets
from ..deployments.service import glance_at_deployments
from ..kernel.deps import DbSession
from ..kernel.pagination import Glance
from ..projects import teams
from ..projects.deps import ProjectReader
from ..projects.schemas import ProjectRead, TeamOfProject
from ..projects.service import permissions_in
from ..registry.service import glance_at_models
from ..tracking.service import glance_at_experiments

router = APIRouter(prefix="/projects", tags=["projects"])

_PARTS = {
    "models": (Permission.MODEL_READ, glance_at_models),
    "datasets": (Permission.DATASET_READ, glance_at_datasets),
    "experiments": (Permission.RUN_READ, glance_at_experiments),
    "deployments": (Permission.DEPLOYMENT_READ, glance_at_deployments),
}


class ProjectOverview(ProjectRead):
    """A project and what it holds; a part that the caller may not read is null."""

    teams: list[TeamOfProject]
    models: Glance | None
    datasets: Glance | None
    experiments: Glance | None
    deployments: Glance | None


@router.get("/{project_id}")
def get_project(project: ProjectReader, session: DbSession, principal: CurrentPrincipal) -> ProjectOverview:
    """Return one project, with counts and the newest of what it holds."""
    own = ProjectRead.model_validate(project).model_dump()
    roles = teams.list_project_teams(session, project.id)
    return ProjectOverview(**own, teams=roles, **_contents(session, principal, project.id))


def _contents(session: Session, principal: Principal, project_id: str) -> dict[str, Glance | None]:
    held = permissions_in(session, principal, project_id)
    return {
        name: look(session, project_id) if permission in held else None for name, (permission, look) in _PARTS.items()
    }
