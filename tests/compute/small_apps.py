"""An application small enough to start in seconds; `/api/readyz` answers as the real one does."""

from ray import serve
from ray.serve import Application
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def _ready(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ready")


def _asgi() -> Starlette:
    return Starlette(routes=[Route("/readyz", _ready)])


class Small:
    pass


def build(args: dict[str, str]) -> Application:
    deployment = serve.deployment(name="small", ray_actor_options={"num_cpus": 0})
    return deployment(serve.ingress(_asgi)(Small)).bind()


def build_broken(args: dict[str, str]) -> Application:
    raise ValueError("no such thing as a broken app")
