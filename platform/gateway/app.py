"""Compose the control plane's FastAPI application."""

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from ..auth.router import router as auth
from ..data.router import router as data
from ..deployments import publisher
from ..deployments.router import router as deployments
from ..kernel.resources import Resources
from ..monitoring.router import router as monitoring
from ..projects.keys_router import router as api_keys
from ..projects.router import router as projects
from ..registry.router import router as registry
from ..tracking.router import router as tracking
from ..train.router import router as train
from . import errors, health
from .metrics import RequestMetrics
from .middleware import RequestContext

_SLICES = (auth, api_keys, projects, data, registry, tracking, train, deployments, monitoring)


def create_app(resources: Resources) -> FastAPI:
    """Build the application on open resources; the caller closes them."""
    app = FastAPI(
        title="raymill",
        version="1",
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.resources = resources
    app.state.metrics = RequestMetrics()
    publisher.subscribe(resources)
    api = APIRouter(prefix="/v1")
    for router in _SLICES:
        api.include_router(router)
    app.include_router(api)
    app.include_router(health.router)
    app.add_middleware(RequestContext, metrics=app.state.metrics)
    errors.install(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
