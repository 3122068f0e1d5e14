"""The model server: a bare ASGI app that authenticates, routes and answers in the process that holds the models.

Routes (Open Inference Protocol v2 and the simple form):

    GET  /v2  /v2/health/live  /v2/health/ready  /version  /
    GET  /v2/models/<m>[/versions/<n>][/ready]
    POST /v2/models/<m>[/versions/<n>]/infer
    POST /v2/models/<m>[/versions/<n>]/predict

<m> is ``<project>.<deployment>`` or ``<project>.<deployment>.staging``, <n> a revision. There is no router: paths are
split, since a framework's routing costs a third of a tiny model's request.
"""

from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import structlog

from ..kernel.errors import InternalError, RaymillError
from ..kernel.settings import Settings
from .directory import Directory, Route
from .errors import ClientGone, MethodNotAllowed, RouteNotFound
from .exchange import Head, Response, error_response, json_response
from .instances import predict
from .invoke import Invoker
from .lines import Codec
from .parts import Parts
from .pool import ModelPool
from .protocol import infer
from .tensors import Port

log = structlog.get_logger(__name__)

_CODECS: dict[str, Codec] = {"infer": infer, "predict": predict}
_PLATFORM = {"onnx": "onnx_onnxruntime"}


class ModelServer:
    """One ASGI app; its background work starts and ends with the ASGI lifespan."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._directory: Directory = parts.directory
        self._pool: ModelPool = parts.pool
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
            case ["v2", "models", name, *rest]:
                return self._describe(head, name, rest)
            case path:
                return self._state(head, path)

    async def _invoke(self, head: Head, receive: Any, name: str, number: str | None, door: str) -> Response:
        if head.method != "POST":
            raise MethodNotAllowed(head.method, "POST")
        return await self._invoker.invoke(head, receive, name, number, _CODECS[door])

    def _describe(self, head: Head, name: str, rest: list[str]) -> Response:
        match rest:
            case [] | ["ready"]:
                number = None
            case ["versions", number] | ["versions", number, "ready"]:
                pass
            case _:
                raise RouteNotFound(head.path)
        _check_get(head)
        _, endpoint = self._invoker.admit(head, name)
        if rest and rest[-1] == "ready":
            routes = [endpoint.route(number)] if number else endpoint.serving
            ready = not any(self._pool.is_failing(route.revision) for route in routes)
            return json_response({"name": name, "ready": ready}, 200 if ready else 503)
        return json_response(_metadata(endpoint.route(number) if number else endpoint.serving[-1], [*endpoint.routes]))

    def _state(self, head: Head, path: list[str]) -> Response:
        match path:
            case ["v2"]:
                document: dict[str, Any] = {
                    "name": "raymill",
                    "version": version("raymill"),
                    "extensions": ["binary_tensor_data"],
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


def _metadata(route: Route, versions: list[str]) -> dict[str, Any]:
    signature = route.revision.signature
    return {
        "name": route.target.name,
        "versions": versions,
        "platform": _PLATFORM.get(route.revision.format, route.revision.format),
        "inputs": [_tensor(port) for port in route.target.interface.inputs.values()],
        "outputs": [_tensor(port) for port in route.target.interface.outputs.values()],
        "parameters": {"labels": signature.labels},
    }


def _tensor(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": port.datatype, "shape": port.shape}


__all__ = ["ModelServer"]
