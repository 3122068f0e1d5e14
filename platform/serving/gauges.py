"""How each model server is just now, told to Valkey beside the live metrics.

raymill:gauges:<server id>   string   the gauges in JSON; lives a quarter of a minute after the last word
"""

from collections.abc import Callable
from typing import Any, cast

import orjson
import psutil
import redis
import redis.asyncio

from ..kernel.cache import CacheUnavailable
from .channel import live_servers
from .directory import Directory
from .journal import Journal
from .pool import ModelPool

_TTL_S = 15

#: What each gauge means; those that only grow end in ``_total``.
GAUGES = {
    "models": "Models in memory",
    "model_bytes": "Bytes of the models in memory",
    "resident_bytes": "Resident memory of the server's process",
    "loads_total": "Models loaded since the server started",
    "evictions_total": "Models dropped to make room since the server started",
    "waiting": "Requests that wait for a model or a thread",
    "batch_size": "Requests that one call of a model answered, on average over the models in memory",
    "rows_waiting": "Rows of log and feedback that are not written yet",
    "rows_dropped_total": "Rows of log and feedback lost because the object store did not keep up",
}

Gauges = dict[str, float]


def gauges_of(directory: Directory, pool: ModelPool, *journals: Journal[Any]) -> Gauges:
    """Read off one model server."""
    lines = [loaded.line for loaded in pool.held() if loaded.line is not None]
    calls = sum(line.calls for line in lines)
    return {
        "models": len(pool.held()),
        "model_bytes": pool.size_bytes,
        "resident_bytes": psutil.Process().memory_info().rss,
        "loads_total": pool.loads,
        "evictions_total": pool.evictions,
        "waiting": sum(endpoint.room.waiting for endpoint in directory.endpoints.values()),
        "batch_size": sum(line.requests for line in lines) / calls if calls else 1.0,
        "rows_waiting": sum(map(len, journals)),
        "rows_dropped_total": sum(journal.dropped for journal in journals),
    }


class GaugeTeller:
    """Tells one server's gauges."""

    def __init__(self, cache: redis.asyncio.Redis, server_id: str, read: Callable[[], Gauges]) -> None:
        self._cache = cache
        self._key = _key(server_id)
        self._read = read

    async def tell(self) -> None:
        """Write the gauges down.

        Raises:
            redis.RedisError: If Valkey does not answer.
        """
        await self._cache.set(self._key, orjson.dumps(self._read()), ex=_TTL_S)


def read_gauges(cache: redis.Redis) -> dict[str, Gauges]:
    """Return the gauges of the live model servers, by server id.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    servers = sorted(live_servers(cache))
    try:
        told = cast(list[bytes | None], cache.mget(map(_key, servers)) if servers else [])
    except redis.RedisError as error:
        raise CacheUnavailable from error
    return {server: orjson.loads(gauges) for server, gauges in zip(servers, told, strict=True) if gauges}


def _key(server_id: str) -> str:
    return f"raymill:gauges:{server_id}"
