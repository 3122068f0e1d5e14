"""The model server: a bare ASGI app that authenticates, routes and answers in the process that holds the models.

Routes (Open Inference Protocol v2 and the simple form):

    GET  /v2  /v2/health/live  /v2/health/ready  /version  /
    GET  /v2/models/<m>[/versions/<n>][/ready | /config | /stats]   /v2/models/<m>/openapi.json
    GET  /v2/models/stats   POST /v2/repository/index
    POST /v2/models/<m>[/versions/<n>]/infer
    POST /v2/models/<m>[/versions/<n>]/predict
    POST /v2/models/<m>/feedback

<m> is ``<project>.<deployment>`` or ``<project>.<deployment>.staging``, <n> a revision. There is no router: paths are
split, since a framework's routing costs a third of a tiny model's request.
"""

from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import structlog

from ..kernel.errors import InternalError, RaymillError
from ..kernel.settings import Settings
from .descriptions import EXTENSIONS
from .errors import ClientGone, ExtensionNotOffered, MethodNotAllowed, RouteNotFound
from .exchange import Head, Response, error_response, json_response, read_body
from .invoke import Invoker
from .models.lines import Codec
from .parts import Parts
from .protocol.instances import predict
from .protocol.v2 import infer
from .records.feedback import BODY_BYTES

log = structlog.get_logger(__name__)

_MAX_QUESTION_BYTES, _QUESTION_S = 4096, 10.0
_CODECS: dict[str, Codec] = {"infer": infer, "predict": predict}


class ModelServer:
    """One ASGI app; its background work starts and ends with the ASGI lifespan."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._descriptions = parts.descriptions
        self._invoker: Invoker = parts.invoker
        self.is_ready = False

    @classmethod
    def open(cls, settings: Settings) -> "ModelServer":
        """Build a server from the settings; nothing is connected before it starts.

        Raises:
            RaymillError: If the keys or the cache are not configured.
        """
        return cls(Parts.open(settings))

    async def start(self) -> None:
        """Load the table and begin to follow it."""
        await self._parts.start()
        self.is_ready = True

    async def stop(self) -> None:
        """Write away what was counted and logged."""
        self.is_ready = False
        await self._parts.stop()

    def artifact(self, app: str, sha256: str) -> AsyncIterator[bytes]:
        """Yield the artifact of a dedicated revision, for its app.

        Raises:
            ModelUnavailable: If no such revision is served, or the object store does not answer.
        """
        return self._parts.desk.give(app, sha256)

    def check_health(self) -> None:
        """Fail when a part of the background work has died.

        Raises:
            InternalError: If one has.
        """
        if self.is_ready and not self._parts.is_alive():
            raise InternalError("A background task of the model server has died.")

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        head = Head.of(scope)
        try:
            response = await self._route(head, receive)
        except ClientGone:
            return
        except RaymillError as error:
            response = error_response(error, head)
        except Exception:
            log.exception("request_failed", request_id=head.request_id.decode(), path=head.path)
            response = error_response(
                InternalError("The platform failed to handle the request; its logs have the details."), head
            )
        await response.send(send, head.request_id, is_https=scope.get("scheme") == "https")

    async def _route(self, head: Head, receive: Any) -> Response:
        match head.path.split("/")[1:]:
            case ["v2", "models", name, "infer" | "predict" as door]:
                return await self._invoke(head, receive, name, None, door)
            case ["v2", "models", name, "versions", number, "infer" | "predict" as door]:
                return await self._invoke(head, receive, name, number, door)
            case ["v2", "models", name, "feedback"]:
                return await self._hear(head, receive, name)
            case ["v2", "models" | "repository", *_] as path:
                return await self._describe(head, path[1:], receive)
            case path:
                return self._state(head, path)

    async def _invoke(self, head: Head, receive: Any, name: str, number: str | None, door: str) -> Response:
        if head.method != "POST":
            raise MethodNotAllowed(head.method, "POST")
        return await self._invoker.invoke(head, receive, name, number, _CODECS[door])

    async def _hear(self, head: Head, receive: Any, name: str) -> Response:
        if head.method != "POST":
            raise MethodNotAllowed(head.method, "POST")
        caller, endpoint = self._invoker.admit(head, name)
        await self._invoker.count(head, caller, endpoint)
        within_s = endpoint.document.timeout_s
        body = await read_body(receive, head.headers, BODY_BYTES, within_s=within_s)
        return self._parts.feedback.take(caller, endpoint, body)

    async def _describe(self, head: Head, path: list[str], receive: Any) -> Response:
        match path:
            case ["models", "stats"]:
                _check_get(head)
                return json_response(*await self._descriptions.statistics(head))
            case ["models", name, *rest]:
                _check_get(head)
                return json_response(*await self._descriptions.of(head, name, rest))
            case ["repository", "index"]:
                # A question, which the protocol asks by POST.
                body = await read_body(receive, head.headers, _MAX_QUESTION_BYTES, within_s=_QUESTION_S)
                return json_response(*await self._descriptions.index(head, body))
            case ["repository", *_]:
                raise ExtensionNotOffered("the model repository's control of loading: models load when they are asked")
        raise RouteNotFound(head.path)

    def _state(self, head: Head, path: list[str]) -> Response:
        match path:
            case ["v2"]:
                document: dict[str, Any] = {
                    "name": "raymill",
                    "version": version("raymill"),
                    "extensions": EXTENSIONS,
                }
                status = 200
            case ["v2", "health", "live"]:
                document, status = {"live": True}, 200
            case ["v2", "health", "ready"]:
                document, status = {"ready": self.is_ready}, 200 if self.is_ready else 503
            case ["version"]:
                document, status = {"name": "raymill", "version": version("raymill")}, 200
            case [""]:
                _check_get(head)
                return Response(307, b"", ((b"location", b"/console"),))
            case ["v2", "trace" | "logging" | "systemsharedmemory" | "cudasharedmemory" as extension, *_]:
                raise ExtensionNotOffered(extension)
            case _:
                raise RouteNotFound(head.path)
        _check_get(head)
        return json_response(document, status)

    async def _live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            step, name = (self.start, "startup") if message["type"] == "lifespan.startup" else (self.stop, "shutdown")
            try:
                await step()
            except Exception as error:
                log.exception("lifespan_failed", step=name)
                await send({"type": f"lifespan.{name}.failed", "message": str(error)})
                return
            await send({"type": f"lifespan.{name}.complete"})
            if name == "shutdown":
                return


def _check_get(head: Head) -> None:
    if head.method not in ("GET", "HEAD"):
        raise MethodNotAllowed(head.method, "GET")


__all__ = ["ModelServer"]
