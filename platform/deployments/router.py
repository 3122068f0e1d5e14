"""Routes of deployments."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from sqlmodel import Session

from ..auth.deps import CurrentPrincipal, DetachedPrincipal, Once, OncePerKey, credential_of
from ..auth.needs import needs, shows
from ..auth.permissions import Permission
from ..kernel.deps import AppResources, DbSession, Paging
from ..kernel.pagination import Page
from ..kernel.resources import Resources
from . import service
from .follow import Watch
from .follow import follow as state_stream
from .schemas import (
    ApiEndpoint,
    DeploymentCreate,
    DeploymentRead,
    DeploymentScale,
    DeploymentStatusRead,
    DeploymentUpdate,
    Promotion,
    TrafficUpdate,
)

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


def _watched(
    deployment_id: str, request: Request, resources: AppResources, principal: DetachedPrincipal
) -> Iterator[Watch]:
    """Watch a deployment that the caller may read until the answer has ended."""
    watch: Watch = request.app.state.deployment_watch
    with resources.database.session() as session:
        service.get_deployment(session, principal=principal, deployment_id=deployment_id)
    with resources.followers.one_more(principal.user_id), watch.following(deployment_id):
        yield watch


@router.get("/{deployment_id}/events", response_class=EventSourceResponse)
@needs(Permission.DEPLOYMENT_READ)
async def stream_deployment_events(
    deployment_id: str,
    request: Request,
    resources: AppResources,
    watch: Annotated[Watch, Depends(_watched)],
    follow: bool = False,
    seconds: Annotated[float, Query(ge=0, le=3600)] = 300.0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow the states of a deployment until its change has ended, or with ``follow`` until the time is up."""
    credential = credential_of(request.headers)
    states = state_stream(
        resources, watch, credential, deployment_id, seen=last_event_id, seconds=seconds, goes_on=follow
    )
    async for state in states:
        yield state


@router.get("/{deployment_id}/endpoints")
@needs(Permission.DEPLOYMENT_READ)
def list_deployment_endpoints(deployment_id: str, session: DbSession, principal: CurrentPrincipal) -> list[ApiEndpoint]:
    """Read what clients may call of a deployment, with the schemas of requests and answers."""
    return service.list_endpoints(session, principal=principal, deployment_id=deployment_id)


@router.patch("/{deployment_id}")
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def update_deployment(
    deployment_id: str,
    data: DeploymentUpdate,
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
) -> DeploymentRead:
    """Serve another model version, by a new revision with all traffic, or change settings; each is live at once."""
    deployment = service.update_deployment(
        session,
        principal=principal,
        deployment_id=deployment_id,
        data=data,
        defaults=resources.settings.quotas,
    )
    return service.describe_deployment(session, deployment, base_url=resources.settings.http.base_url)


@router.put("/{deployment_id}/traffic")
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def set_deployment_traffic(
    deployment_id: str, data: TrafficUpdate, session: DbSession, resources: AppResources, principal: CurrentPrincipal
) -> DeploymentRead:
    """Divide the traffic among ready revisions, by whole requests; the same sticky key gets the same revision."""
    deployment = service.set_traffic(
        session, principal=principal, deployment_id=deployment_id, data=data, defaults=resources.settings.quotas
    )
    return service.describe_deployment(session, deployment, base_url=resources.settings.http.base_url)


@router.post("/{deployment_id}/promote")
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def promote_revision(
    deployment_id: str,
    data: Promotion,
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
    key: OncePerKey,
) -> DeploymentRead:
    """Give one ready revision all traffic, the newest unless named; it is ready when every model server follows."""
    change = partial(service.promote_revision, session, principal=principal, deployment_id=deployment_id, data=data)
    return _once(key, session, resources, data, change)


@router.post("/{deployment_id}/rollback")
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def rollback_deployment(
    deployment_id: str,
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
    key: OncePerKey,
) -> DeploymentRead:
    """Give all traffic back to the last ready revision that had it; during a rollout, that is the present one."""
    change = partial(service.roll_back_deployment, session, principal=principal, deployment_id=deployment_id)
    return _once(key, session, resources, _NoBody(), change)


@router.post("/{deployment_id}/stop", status_code=202)
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def stop_deployment(
    deployment_id: str,
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
    key: OncePerKey,
) -> DeploymentRead:
    """Let the endpoint answer 503 until it is started; apps of its own end."""
    change = partial(service.stop_deployment, session, principal=principal, deployment_id=deployment_id)
    return _once(key, session, resources, _NoBody(), change)


@router.post("/{deployment_id}/start", status_code=202)
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def start_deployment(
    deployment_id: str,
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
    key: OncePerKey,
) -> DeploymentRead:
    """Let a stopped endpoint answer again, with the traffic that it had."""
    change = partial(service.start_deployment, session, principal=principal, deployment_id=deployment_id)
    return _once(key, session, resources, _NoBody(), change)


@router.post("/{deployment_id}/scale", status_code=202)
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def scale_deployment(
    deployment_id: str,
    data: DeploymentScale,
    session: DbSession,
    resources: AppResources,
    principal: CurrentPrincipal,
    key: OncePerKey,
) -> DeploymentRead:
    """Set the replicas of a dedicated deployment; refused for serverless ones, which share one pool."""
    change = partial(service.scale_deployment, session, principal=principal, deployment_id=deployment_id, data=data)
    return _once(key, session, resources, data, change)


@router.delete("/{deployment_id}", status_code=204)
@needs(Permission.DEPLOYMENT_WRITE, Permission.DEPLOYMENT_PRODUCTION)
def delete_deployment(deployment_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """Stop serving and forget a deployment; its endpoint answers 404 from then on."""
    service.delete_deployment(session, principal=principal, deployment_id=deployment_id)


def _once(
    key: Once, session: Session, resources: Resources, body: BaseModel, change: Callable[..., Any]
) -> DeploymentRead:
    """Change a deployment and show it, or return what the same Idempotency-Key was answered before."""

    def show() -> DeploymentRead:
        deployment = change(defaults=resources.settings.quotas)
        return service.describe_deployment(session, deployment, base_url=resources.settings.http.base_url)

    return key.once(session, body, DeploymentRead, show)


class _NoBody(BaseModel):
    """The body of a request that has none."""
