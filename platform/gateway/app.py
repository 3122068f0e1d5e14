"""Compose the control plane's FastAPI application."""

from fastapi import FastAPI
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
from ..train import checkpoints
from ..train.router import router as train
from . import errors, health
from .metrics import RequestMetrics
from .middleware import RequestContext
from .ray_jobs import router as ray_jobs

_SLICES = (auth, api_keys, projects, data, registry, tracking, train, deployments, monitoring, ray_jobs)


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
    checkpoints.subscribe(resources)
    for router in _SLICES:
        app.include_router(router, prefix="/v1")
    app.include_router(health.router)
    app.add_middleware(RequestContext, metrics=app.state.metrics)
    errors.install(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
