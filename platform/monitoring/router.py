"""Routes of monitoring."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from ..auth.deps import CurrentPrincipal, DetachedPrincipal
from ..auth.needs import needs
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession
from ..kernel.pagination import Page
from . import service
from .exposition import CONTENT_TYPE
from .schemas import DeploymentMetrics, FeedbackQuery, FeedbackRecord, InferenceQuery, InferenceRecord

router = APIRouter(prefix="/deployments", tags=["monitoring"])
project_router = APIRouter(prefix="/projects", tags=["monitoring"])


@project_router.get("/{project_id}/metrics", response_class=PlainTextResponse)
@needs(Permission.DEPLOYMENT_READ)
def get_project_metrics(
    project_id: str, session: DbSession, resources: AppResources, principal: CurrentPrincipal
) -> Response:
    """Read requests, errors and latency of a project's deployments, by revision, in Prometheus' text format."""
    content = service.get_project_metrics(session, resources.cache, principal=principal, project_id=project_id)
    return Response(content, media_type=CONTENT_TYPE)


@router.get("/{deployment_id}/metrics")
@needs(Permission.DEPLOYMENT_READ)
def get_metrics(
    deployment_id: str, session: DbSession, resources: AppResources, principal: CurrentPrincipal
) -> DeploymentMetrics:
    """Read a deployment's requests, errors and latency."""
    return service.get_metrics(session, resources.cache, principal=principal, deployment_id=deployment_id)


@router.get("/{deployment_id}/logs")
@needs(Permission.DEPLOYMENT_READ, Permission.LOG_READ)
def get_inference_log(
    deployment_id: str,
    resources: AppResources,
    principal: DetachedPrincipal,
    query: Annotated[InferenceQuery, Query()],
) -> Page[InferenceRecord]:
    """Read the requests that a deployment answered, newest first; a page may be short and still have a next one."""
    return service.get_inference_log(resources, principal=principal, deployment_id=deployment_id, query=query)


@router.get("/{deployment_id}/feedback")
@needs(Permission.DEPLOYMENT_READ, Permission.LOG_READ)
def get_feedback(
    deployment_id: str,
    resources: AppResources,
    principal: DetachedPrincipal,
    query: Annotated[FeedbackQuery, Query()],
) -> Page[FeedbackRecord]:
    """Read what clients said of a deployment's answers, newest first; a page may be short and still have a next one."""
    return service.get_feedback(resources, principal=principal, deployment_id=deployment_id, query=query)
