"""How each model server is just now, told to Valkey beside the live metrics.

    raymill:gauges:<server id>            string   the gauges in JSON
    raymill:revision-gauges:<server id>   string   those of the revisions that have any: a list of their values in JSON

Both live a quarter of a minute after the last word.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import orjson
import psutil
import redis
import redis.asyncio

from ...kernel.cache import CacheUnavailable
from ..models.dedicated import DedicatedApps
from ..models.pool import ModelPool
from ..published.channel import live_servers
from ..published.directory import Directory
from .journal import Journal
from .metrics import Meter

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


class RevisionGauges(NamedTuple):
    """How a revision is just now: requests that wait for it, and bytes of memory that its model takes."""

    waiting: int = 0
    model_bytes: int = 0


class Told(NamedTuple):
    """What one model server tells: of itself, and of revisions."""

    server: Gauges
    revisions: dict[Meter, RevisionGauges]


def gauges_of(directory: Directory, pool: ModelPool, apps: DedicatedApps, *journals: Journal[Any]) -> Told:
    """Read off one model server; a model that several revisions share takes memory for the one that it was loaded for.

    Only revisions in memory, and those that are waited for, are told of.
    """
    waiting = Counter(apps.waiting())
    for endpoint in directory.endpoints.values():
        if endpoint.room.waiting:
            # Added: a large body waits to be read before it waits for the app.
            waiting.update(endpoint.room.by_revision)
    held = {loaded.meter: loaded.size_bytes for loaded in pool.held() if loaded.meter}
    revisions = {meter: RevisionGauges(waiting.get(meter, 0), held.get(meter, 0)) for meter in waiting.keys() | held}
    return Told(_server_gauges(pool, sum(waiting.values()), journals), revisions)


def _server_gauges(pool: ModelPool, waiting: int, journals: Sequence[Journal[Any]]) -> Gauges:
    lines = [loaded.line for loaded in pool.held() if loaded.line is not None]
    calls = sum(line.calls for line in lines)
    return {
        "models": len(pool.held()),
        "model_bytes": pool.size_bytes,
        "resident_bytes": psutil.Process().memory_info().rss,
        "loads_total": pool.loads,
        "evictions_total": pool.evictions,
        "waiting": waiting,
        "batch_size": sum(line.requests for line in lines) / calls if calls else 1.0,
        "rows_waiting": sum(map(len, journals)),
        "rows_dropped_total": sum(journal.dropped for journal in journals),
    }


class GaugeTeller:
    """Tells one server's gauges."""

    def __init__(self, cache: redis.asyncio.Redis, server_id: str, read: Callable[[], Told]) -> None:
        self._cache = cache
        self._keys = _key(server_id), _revisions_key(server_id)
        self._read = read

    async def tell(self) -> None:
        """Write the gauges down.

        Raises:
            redis.RedisError: If Valkey does not answer.
        """
        told = self._read()
        rows = [(*meter, *gauges) for meter, gauges in told.revisions.items()]
        async with self._cache.pipeline(transaction=False) as pipe:
            for key, content in zip(self._keys, (told.server, rows), strict=True):
                pipe.set(key, orjson.dumps(content), ex=_TTL_S)
            await pipe.execute()


def read_gauges(cache: redis.Redis) -> dict[str, Gauges]:
    """Return the gauges of the live model servers, by server id.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    return _told(cache, _key)


def read_revision_gauges(cache: redis.Redis) -> dict[Meter, RevisionGauges]:
    """Return the gauges of revisions, added up over the live model servers; those that are all zero are left out.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    total: dict[Meter, RevisionGauges] = {}
    for rows in _told(cache, _revisions_key).values():
        for endpoint_id, number, waiting, model_bytes in rows:
            before = total.get((endpoint_id, number), RevisionGauges())
            total[endpoint_id, number] = RevisionGauges(before.waiting + waiting, before.model_bytes + model_bytes)
    return total


def _told(cache: redis.Redis, key: Callable[[str], str]) -> dict[str, Any]:
    """Return what the live servers told under a key, by server id."""
    servers = sorted(live_servers(cache))
    try:
        told = cast(list[bytes | None], cache.mget(map(key, servers)) if servers else [])
    except redis.RedisError as error:
        raise CacheUnavailable from error
    return {server: orjson.loads(content) for server, content in zip(servers, told, strict=True) if content}


def _key(server_id: str) -> str:
    return f"raymill:gauges:{server_id}"


def _revisions_key(server_id: str) -> str:
    return f"raymill:revision-gauges:{server_id}"
