"""What a model server tells about its models: metadata, readiness, configuration, statistics, the index, OpenAPI.

Sources: Open Inference Protocol v2 and, of Triton's extensions, "Model Configuration", "Statistics" and "Model
Repository", of which the index alone is offered: models are loaded when they are asked for.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import redis
import redis.asyncio

from ..kernel.cache import CacheUnavailable
from .edge.access import Edge
from .errors import RouteNotFound
from .exchange import Head
from .models.pool import ModelPool
from .openapi import openapi
from .protocol.tensors import Port
from .protocol.v2 import read_json
from .published.directory import Directory, Endpoint, Route
from .records.metrics import metrics_key

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "model_repository(index)", "statistics"]

_PLATFORM = {"onnx": "onnx_onnxruntime"}
_COUNTS = ("requests", "errors", "latency_us", "calls", "called")
_NS_PER_US = 1000
# Endpoints that are looked at, or asked Valkey for, before other requests have their turn: some milliseconds.
_AT_ONCE = 200
Document = tuple[Any, int]


class Descriptions:
    """Answers questions about endpoints, for those who may invoke them."""

    def __init__(
        self, edge: Edge, directory: Directory, pool: ModelPool, cache: redis.asyncio.Redis, *, timeout_s: float
    ) -> None:
        self._edge = edge
        self._directory = directory
        self._pool = pool
        self._cache = cache
        self._timeout_s = timeout_s

    async def of(self, head: Head, name: str, rest: list[str]) -> Document:
        """Return a document about an endpoint, and the status of the answer.

        Raises:
            RouteNotFound: If there is none of this kind.
            RaymillError: If the caller may not invoke the endpoint.
        """
        number, kind = _asked(head.path, rest)
        _, endpoint = self._edge.admit(head.headers, name, head.client)
        route = endpoint.route(number) if number else endpoint.newest()
        match kind:
            case "ready":
                is_ready = self._is_ready([route] if number else endpoint.serving)
                return {"name": name, "ready": is_ready}, 200 if is_ready else 503
            case "config":
                return _config(route), 200
            case "stats":
                routes = [route] if number else list(endpoint.routes.values())
                return {"model_stats": await self._statistics(routes)}, 200
            case "openapi.json":
                return openapi(endpoint, route), 200
        return _metadata(route, [*endpoint.routes]), 200

    async def statistics(self, head: Head) -> Document:
        """Return the statistics of all endpoints that the caller may invoke."""
        statistics: list[dict[str, Any]] = []
        async for endpoints in self._admitted(head):
            routes = [route for endpoint in endpoints for route in endpoint.routes.values()]
            statistics += await self._statistics(routes)
        return {"model_stats": statistics}, 200

    async def index(self, head: Head, body: bytes) -> Document:
        """Return names, versions and states of what the caller may invoke; with ``{"ready": true}`` of what is ready.

        Raises:
            ValidationFailed: If the body is none of this.
        """
        only_ready = bool(body) and read_json(body).get("ready") is True
        entries: list[dict[str, str]] = []
        async for endpoints in self._admitted(head):
            entries += [
                self._entry(route, has_weight=route in endpoint.serving)
                for endpoint in endpoints
                for route in endpoint.routes.values()
            ]
        return [entry for entry in entries if entry["state"] == "READY" or not only_ready], 200

    async def _admitted(self, head: Head) -> AsyncIterator[list[Endpoint]]:
        """Yield the endpoints that the caller may invoke by their names, some at a time; others are let in between."""
        caller = self._edge.authenticate(head.headers.get(b"authorization"), head.headers.get(b"x-api-key"))
        names = sorted(self._directory.endpoints)
        for start in range(0, len(names), _AT_ONCE):
            found = map(self._directory.endpoints.get, names[start : start + _AT_ONCE])
            yield [endpoint for endpoint in found if endpoint and self._edge.may_invoke(caller, endpoint)]
            await asyncio.sleep(0)

    def _entry(self, route: Route, *, has_weight: bool) -> dict[str, str]:
        is_ready = has_weight and self._is_ready([route])
        reason = "" if has_weight else "it has no weight"
        state = "READY" if is_ready else "UNAVAILABLE"
        return {"name": route.target.name, "version": route.target.version, "state": state, "reason": reason}

    def _is_ready(self, routes: list[Route]) -> bool:
        return not any(route.is_failing or self._pool.is_failing(route.revision) for route in routes)

    async def _statistics(self, routes: list[Route]) -> list[dict[str, Any]]:
        """Read what all servers have counted."""
        try:
            async with asyncio.timeout(self._timeout_s), self._cache.pipeline(transaction=False) as pipe:
                for route in routes:
                    endpoint_id, number = route.meter
                    pipe.hmget(metrics_key(endpoint_id), [f"{number}:{name}" for name in _COUNTS])
                counted = await pipe.execute()
        except (redis.RedisError, OSError, TimeoutError) as error:
            raise CacheUnavailable from error
        return [
            _statistics(route, *map(int, (n or 0 for n in row))) for route, row in zip(routes, counted, strict=True)
        ]


def _asked(path: str, rest: list[str]) -> tuple[str | None, str]:
    """Return the revision and the kind of document that a path asks for."""
    number = None
    if len(rest) >= 2 and rest[0] == "versions":
        number, rest = rest[1], rest[2:]
    kinds = ("ready", "config", "stats") if number else ("ready", "config", "stats", "openapi.json")
    if len(rest) > 1 or (rest and rest[0] not in kinds):
        raise RouteNotFound(path)
    return number, rest[0] if rest else ""


def _metadata(route: Route, versions: list[str]) -> dict[str, Any]:
    interface = route.target.interface
    return {
        "name": route.target.name,
        "versions": versions,
        "platform": _PLATFORM.get(route.revision.format, route.revision.format),
        "inputs": [_tensor(port) for port in interface.inputs.values()],
        "outputs": [_tensor(port) for port in interface.outputs.values()],
        "parameters": {"labels": route.revision.signature.labels},
    }


def _tensor(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": port.datatype, "shape": port.shape}


def _config(route: Route) -> dict[str, Any]:
    interface = route.target.interface
    return {
        "name": route.target.name,
        "platform": _PLATFORM.get(route.revision.format, route.revision.format),
        "backend": route.revision.format,
        # Shapes are whole: the protocol adds a dimension to them only where this is not zero.
        "max_batch_size": 0,
        "input": [_configured(port) for port in interface.inputs.values()],
        "output": [_configured(port) for port in interface.outputs.values()],
    }


def _configured(port: Port) -> dict[str, Any]:
    kind = "STRING" if port.datatype == "BYTES" else port.datatype
    return {"name": port.name, "data_type": f"TYPE_{kind}", "dims": port.shape}


def _statistics(route: Route, requests: int, failed: int, us: int, calls: int, called: int) -> dict[str, Any]:
    ns = us * _NS_PER_US
    return {
        "name": route.target.name,
        "version": route.target.version,
        "inference_count": requests - failed,
        # Of those that threads answered, several may have run together.
        "execution_count": max(0, requests - failed - called + calls),
        # Refusals take next to no time.
        "inference_stats": {"success": {"count": requests - failed, "ns": ns}, "fail": {"count": failed, "ns": 0}},
        "batch_stats": [],
    }
