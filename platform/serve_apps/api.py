"""The control plane as a Ray Serve app."""

from typing import Any

from pydantic import BaseModel
from ray import serve
from ray.serve import Application


class ApiArgs(BaseModel):
    """What an operator may set for this app in apps.yaml."""

    num_replicas: int = 1


def _asgi() -> Any:
    # Serve also imports this module in a short-lived process that only reads the application's shape.
    from ..compute.inner_edge import behind_edge
    from ..gateway.app import create_app
    from ..kernel.resources import Resources
    from .preparation import prepare

    settings = prepare(schema=True)
    return behind_edge(create_app(Resources.open(settings, app="api")), settings)


def build(args: ApiArgs) -> Application:
    """Build the app; Serve calls this with the ``args`` of apps.yaml."""
    deployment = serve.deployment(
        name="api",
        num_replicas=args.num_replicas,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
    )
    return deployment(serve.ingress(_asgi)(Api)).bind()


class Api:
    """Control-plane replica; the ASGI application is built inside its own process."""
