"""The status page at /console, until the console comes."""

from importlib.resources import files

from pydantic import BaseModel
from ray import serve
from ray.serve import Application
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from ..gateway.headers import SecurityHeaders, page_policy


class ConsoleArgs(BaseModel):
    """What an operator may set for this app in apps.yaml."""

    num_replicas: int = 1


async def _page(request: Request) -> HTMLResponse:
    state = request.app.state
    return HTMLResponse(state.page, headers=state.headers)


def _asgi() -> Starlette:
    app = Starlette(routes=[Route("/{path:path}", _page)], middleware=[Middleware(SecurityHeaders)])
    app.state.page = files(__package__).joinpath("console.html").read_text()
    app.state.headers = {"Content-Security-Policy": page_policy(app.state.page)}
    return app


class Console:
    """Replica that serves one static page."""


def build(args: ConsoleArgs) -> Application:
    """Build the app; Serve calls this with the ``args`` of apps.yaml."""
    deployment = serve.deployment(
        name="console",
        num_replicas=args.num_replicas,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
    )
    return deployment(serve.ingress(_asgi)(Console)).bind()
