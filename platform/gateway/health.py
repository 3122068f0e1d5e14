"""Liveness, readiness and metrics of the control plane."""

from collections.abc import Callable
from contextlib import suppress

import redis
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from ..kernel.cache import CacheUnavailable
from ..kernel.deps import AppResources
from ..kernel.errors import RaymillError
from ..monitoring.exposition import CONTENT_TYPE, server_exposition

router = APIRouter(tags=["health"])


class Readiness(BaseModel):
    """Whether each part that the control plane depends on answers."""

    ready: bool
    parts: dict[str, str]


@router.get("/healthz")
def get_health() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
def get_readiness(resources: AppResources) -> JSONResponse:
    """Tell whether database, cache and object store answer; 503 when one does not."""
    checks: dict[str, Callable[[], object]] = {
        "database": resources.database.ping,
        "cache": resources.cache.ping,
        "storage": resources.store.ping,
    }
    parts = {name: _state(check) for name, check in checks.items()}
    ready = all(state == "ok" for state in parts.values())
    body = Readiness(ready=ready, parts=parts).model_dump()
    return JSONResponse(body, status_code=200 if ready else 503, headers={} if ready else {"Retry-After": "2"})


@router.get("/metrics", response_class=PlainTextResponse)
def get_platform_metrics(request: Request, resources: AppResources) -> Response:
    """Return the control plane's metrics, and the model servers' while Valkey answers, in Prometheus' text format."""
    content: bytes = request.app.state.metrics.exposition()
    with suppress(CacheUnavailable):
        content += server_exposition(resources.cache)
    return Response(content, media_type=CONTENT_TYPE)


def _state(check: Callable[[], object]) -> str:
    try:
        check()
    except (RaymillError, redis.RedisError, OSError) as error:
        return f"down: {type(error).__name__}"
    return "ok"
