"""The data plane as a Ray Serve app: one replica, one model server."""

import gc
from typing import TYPE_CHECKING, cast

from open_inference.grpc.protocol import (
    ServerLiveRequest,
    ServerLiveResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from pydantic import BaseModel, Field
from ray import serve
from ray.serve import Application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp


class InferenceArgs(BaseModel):
    """What an operator may set for this app in apps.yaml."""

    num_replicas: int = Field(1, ge=1)
    num_cpus: float = Field(0.0, ge=0)
    max_ongoing_requests: int = Field(1000, ge=1)
    drain_s: float = Field(90.0, ge=40, description="For what a replica that is to end has taken; longer is cut off.")


class Inference:
    """Replica around a model server, which it builds when Serve asks for the ASGI app."""

    def __init__(self) -> None:
        # Serve also imports this module in a short-lived process that only reads the application's shape.
        from ..compute.inner_edge import behind_edge
        from ..compute.lane import open_lane
        from ..compute.precedence import take_precedence
        from ..serving.browsers import open_to_origins
        from ..serving.server import ModelServer
        from .preparation import prepare

        settings = prepare(schema=False)
        take_precedence()
        self._server = ModelServer.open(settings)
        self._app = behind_edge(open_to_origins(cast("ASGIApp", self._server), settings.http), settings)
        open_lane(self._app)
        # A full collection of garbage walks all that was imported: 100 ms in which nobody is answered.
        gc.collect()
        gc.freeze()

    def __serve_build_asgi_app__(self) -> "ASGIApp":
        """Give Serve the ASGI app; its lifespan starts and stops the background work."""
        return self._app

    async def ServerLive(self, request: ServerLiveRequest) -> ServerLiveResponse:  # noqa: N802
        """Answer the gRPC call of that name in Open Inference Protocol v2."""
        return ServerLiveResponse(live=True)

    async def ServerReady(self, request: ServerReadyRequest) -> ServerReadyResponse:  # noqa: N802
        """Answer the gRPC call of that name in Open Inference Protocol v2."""
        return ServerReadyResponse(ready=self._server.is_ready)

    async def artifact(self, app: str, sha256: str) -> "AsyncIterator[bytes]":
        """Give an app of the dedicated tier its model; called by handle."""
        async for piece in self._server.artifact(app, sha256):
            yield piece

    def check_health(self) -> None:
        """Tell Serve that the background work lives; Serve replaces the replica when this raises."""
        from ..compute.lane import follow_serve

        follow_serve()
        self._server.check_health()


def build(args: InferenceArgs) -> Application:
    """Build the app; Serve calls this with the ``args`` of apps.yaml."""
    deployment = serve.deployment(
        name="inference",
        num_replicas=args.num_replicas,
        max_ongoing_requests=args.max_ongoing_requests,
        graceful_shutdown_timeout_s=args.drain_s,
        ray_actor_options={"num_cpus": args.num_cpus},
        # A tenth of a small model's request; the inference log says more.
        logging_config={"enable_access_log": False},
    )
    return deployment(serve.ingress()(Inference)).bind()
