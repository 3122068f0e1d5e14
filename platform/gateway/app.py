"""Compose the control plane's FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from ..auth.router import router as auth
from ..auth.sso import SsoProviders
from ..auth.sso_router import router as sso
from ..data.router import router as data
from ..deployments.follow import Watch
from ..deployments.router import router as deployments
from ..kernel.browsers import cross_origin
from ..kernel.resources import Resources
from ..monitoring.router import project_router as project_metrics
from ..monitoring.router import router as monitoring
from ..projects.accounts_router import router as accounts
from ..projects.keys_router import router as api_keys
from ..projects.router import router as projects
from ..projects.secrets_router import router as secrets
from ..projects.teams_router import router as teams
from ..registry.router import router as registry
from ..serving.protocol.examples import check_example
from ..tracking.router import router as tracking
from ..train.router import router as train
from . import docs_page, errors, health, openapi
from .audit import router as audit
from .headers import SecurityHeaders
from .limits import RateLimits
from .me import router as me
from .metrics import RequestMetrics
from .middleware import LastResort, RequestContext
from .project_overview import router as project_overview
from .ray_jobs import router as ray_jobs
from .refusals import Audited, Refusals
from .subscriptions import subscribe

_SLICES = (
    auth,
    sso,
    me,
    accounts,
    api_keys,
    projects,
    project_overview,
    secrets,
    teams,
    data,
    registry,
    tracking,
    train,
    deployments,
    monitoring,
    project_metrics,
    ray_jobs,
    audit,
)


def create_app(resources: Resources) -> FastAPI:
    """Build the application on open resources; the caller closes them."""
    app = FastAPI(
        title="raymill",
        version="1",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        lifespan=_until_written,
    )
    app.state.resources = resources
    app.state.metrics = RequestMetrics()
    app.state.refusals = Refusals(resources.database, app.state.metrics)
    app.state.check_example = check_example
    app.state.sso = SsoProviders(resources.settings)
    app.state.deployment_watch = Watch(resources)
    subscribe(resources)
    for router in _SLICES:
        app.include_router(router, prefix="/v1")
    app.include_router(health.router)
    app.include_router(docs_page.router)
    app.mount("/docs/assets", docs_page.assets)
    _wrap(app, resources)
    errors.install(app)
    openapi.install(app)
    return app


def _wrap(app: FastAPI, resources: Resources) -> None:
    """Put the layers around the application, the innermost first."""
    app.add_middleware(LastResort)
    app.add_middleware(RateLimits, resources=resources)
    if origins := resources.settings.http.cors_origins:
        app.add_middleware(CORSMiddleware, **cross_origin(origins))
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Audited, refusals=app.state.refusals)
    app.add_middleware(RequestContext, metrics=app.state.metrics)


@asynccontextmanager
async def _until_written(app: FastAPI) -> AsyncIterator[None]:
    """Let nothing that was refused be missing in the audit log after an orderly stop."""
    yield
    await run_sync(app.state.refusals.close)


def _operation_id(route: APIRoute) -> str:
    return route.name
