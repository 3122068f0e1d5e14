"""Routes of monitoring."""

from fastapi import APIRouter

from ..auth.deps import CurrentPrincipal
from ..kernel.deps import AppResources, DbSession
from . import service
from .schemas import DeploymentMetrics

router = APIRouter(prefix="/deployments", tags=["monitoring"])


@router.get("/{deployment_id}/metrics")
def get_metrics(
    deployment_id: str, session: DbSession, resources: AppResources, principal: CurrentPrincipal
) -> DeploymentMetrics:
    """Read a deployment's requests, errors and latency."""
    return service.get_metrics(session, resources.cache, principal=principal, deployment_id=deployment_id)
