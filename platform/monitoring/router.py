"""Routes of monitoring."""

from fastapi import APIRouter

from ..auth.deps import CurrentPrincipal
from ..auth.needs import needs
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession
from . import service
from .schemas import DeploymentMetrics

router = APIRouter(prefix="/deployments", tags=["monitoring"])


@router.get("/{deployment_id}/metrics")
@needs(Permission.DEPLOYMENT_READ)
def get_metrics(
    deployment_id: str, session: DbSession, resources: AppResources, principal: CurrentPrincipal
) -> DeploymentMetrics:
    """Read a deployment's requests, errors and latency."""
    return service.get_metrics(session, resources.cache, principal=principal, deployment_id=deployment_id)
