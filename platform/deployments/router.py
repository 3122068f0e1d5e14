"""Routes of deployments."""

from fastapi import APIRouter

from ..auth.deps import CurrentPrincipal, OncePerKey
from ..auth.needs import needs, shows
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.pagination import Page
from . import service
from .schemas import DeploymentCreate, DeploymentRead, DeploymentScale, DeploymentStatusRead, DeploymentUpdate

router = APIRouter(prefix="/deployments", tags=["deployments"])


@router.post("", status_code=202)
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def deploy_model(
    data: DeploymentCreate, session: DbSession, resources: AppResources, principal: CurrentPrincipal, key: OncePerKey
) -> DeploymentRead:
    """Serve a model version under a name; the deployment is ready when every model server follows."""

    def deploy() -> DeploymentRead:
        deployment = service.deploy_model(session, principal=principal, data=data, defaults=resources.settings.quotas)
        return service.describe_deployment(session, deployment, base_url=resources.settings.http.base_url)

    return key.once(session, data, DeploymentRead, deploy)


@router.get("")
@shows(Permission.DEPLOYMENT_READ)
def list_deployments(
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
    query: Paging,
    project_id: str | None = None,
) -> Page[DeploymentRead]:
    """List the deployments that the caller may read, newest first."""
    page = service.list_deployments(session, principal=principal, query=query, project_id=project_id)
    items = service.describe_deployments(session, page.items, base_url=resources.settings.http.base_url)
    return Page(items=items, next_cursor=page.next_cursor)


@router.get("/{deployment_id}")
@needs(Permission.DEPLOYMENT_READ)
def get_deployment(
    deployment_id: str, session: DbSession, resources: AppResources, principal: CurrentPrincipal
) -> DeploymentRead:
    """Read a deployment with its endpoint, revisions and traffic."""
    deployment = service.get_deployment(session, principal=principal, deployment_id=deployment_id)
    return service.describe_deployment(session, deployment, base_url=resources.settings.http.base_url)


@router.get("/{deployment_id}/status")
@needs(Permission.DEPLOYMENT_READ)
def get_deployment_status(deployment_id: str, session: DbSession, principal: CurrentPrincipal) -> DeploymentStatusRead:
    """Read how far the last change of a deployment has come."""
    deployment = service.get_deployment(session, principal=principal, deployment_id=deployment_id)
    return DeploymentStatusRead.model_validate(deployment)


@router.patch("/{deployment_id}")
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def update_deployment(
    deployment_id: str,
    data: DeploymentUpdate,
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
) -> DeploymentRead:
    """Serve another model version, by a new revision with all traffic, or change who may invoke."""
    deployment = service.update_deployment(session, principal=principal, deployment_id=deployment_id, data=data)
    return service.describe_deployment(session, deployment, base_url=resources.settings.http.base_url)


@router.post("/{deployment_id}/scale", status_code=202)
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def scale_deployment(
    deployment_id: str, data: DeploymentScale, session: DbSession, principal: CurrentPrincipal
) -> DeploymentRead:
    """Set the number of replicas; refused for serverless deployments, which share one pool."""
    service.scale_deployment(session, principal=principal, deployment_id=deployment_id)


@router.delete("/{deployment_id}", status_code=204)
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def delete_deployment(deployment_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """Stop serving and forget a deployment; its endpoint answers 404 from then on."""
    service.delete_deployment(session, principal=principal, deployment_id=deployment_id)
