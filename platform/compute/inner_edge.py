"""The edge around an app in its replica, for a cluster whose Serve was started without our callback.

Serve then adds the request id to answers by itself, so the edge leaves that header to it.
"""

from ipaddress import ip_network

from ray.serve._private.constants import RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..kernel.settings import Settings
from .edge import EdgeMiddleware
from .edge_limits import BodyLimits
from .serve_environment import EDGE_CALLBACK


def behind_edge(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap an app in the edge, unless Serve has put every replica or proxy behind it already."""
    if RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH == EDGE_CALLBACK:
        return app
    return InnerEdge(app, settings)


class InnerEdge:
    """An app behind the edge's body limits, request ids and error shape."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._edge = EdgeMiddleware(
            app,
            limits=BodyLimits.of(settings),
            nodes=None,
            trusted_proxies=tuple(ip_network(text) for text in settings.http.trusted_proxies),
            # Serve has read that header before a request comes here.
            stream_uploads=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back without the request id."""

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0].lower() != b"x-request-id"]
            await send(message)

        await self._edge(scope, receive, send_without_id)


__all__ = ["InnerEdge", "behind_edge"]
