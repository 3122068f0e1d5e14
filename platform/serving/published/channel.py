"""The way from publisher to model servers: where documents lie in Valkey, and how both sides use it.

    raymill:documents          hash    <kind>:<key> → envelope
    raymill:document-versions  hash    <kind>:<key> → version
    raymill:complete           string  there once every published document is; a flush takes it away
    raymill:generation         string  changes with every publication; tells a server that it missed something
    raymill:bumps              channel <kind>:<key>:<version>, and for a version that is new the generations before and
                                       after it; flush:<number> asks servers to write their logs away
    raymill:servers            zset    server id, scored by Valkey's own clock at its last sign of life
    raymill:ack:<kind>:<key>:<version>  set of the server ids that hold at least this version; lives 30 s
    raymill:warm:<endpoint id>:<number>  hash of server id → "" where the revision is loaded and has answered a warm-up
                                       request, else the reason why it did not; lives an hour

Valkey may lose all of it: documents are published again, servers report again.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import redis
import redis.asyncio

from ...kernel.cache import CacheUnavailable
from .documents import SealedDocument

DOCUMENTS = "raymill:documents"
VERSIONS = "raymill:document-versions"
COMPLETE = "raymill:complete"
GENERATION = "raymill:generation"
BUMPS = "raymill:bumps"
FLUSH = "flush"
SERVERS = "raymill:servers"

# A server that is silent for longer is not waited for.
ALIVE_S = 3.0
_ACK_TTL_S = 30
_WARM_TTL_S = 3600
_FIRST_POLL_S, _LAST_POLL_S, _REMIND_S = 0.001, 0.02, 0.25
# Versions that are read at once: half a millisecond on the event loop.
_VERSIONS_AT_ONCE = 500

_PUBLISH = """
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
local version = tonumber(ARGV[2])
local bump = ARGV[1] .. ':' .. ARGV[2]
if version < held then return 0 end
if version > held then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  local now = redis.call('TIME')
  local before, after = redis.call('GET', KEYS[3]) or '', now[1] .. '.' .. now[2] .. ':' .. ARGV[1]
  redis.call('SET', KEYS[3], after)
  bump = bump .. ' ' .. before .. ' ' .. after
end
redis.call('PUBLISH', KEYS[4], bump)
return 1
"""
_PULSE = """
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] + now[2] / 1000000, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now[1] - 3600)
return redis.call('GET', KEYS[2])
"""
_ALIVE = """
local now = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], now[1] + now[2] / 1000000 - ARGV[1], '+inf')
"""


class Bump(NamedTuple):
    """What servers are told of a version: the document's name, and the generations around it where it is new."""

    name: str
    version: int
    before: bytes = b""
    after: bytes = b""


def ack_key(name: str, version: int) -> str:
    """Return the key of the set of servers that acknowledged."""
    return f"raymill:ack:{name}:{version}"


def warm_key(endpoint_id: str, number: int) -> str:
    """Return the key of what servers report of a revision's warm-up."""
    return f"raymill:warm:{endpoint_id}:{number}"


def bump_of(name: str, version: int) -> str:
    """Return the message that tells servers of a version."""
    return f"{name}:{version}"


def read_bump(message: bytes) -> Bump:
    """Read a bump message.

    Raises:
        ValueError: If it is not one.
    """
    document, _, generations = message.partition(b" ")
    name, _, version = document.decode().rpartition(":")
    before, _, after = generations.partition(b" ")
    return Bump(name, int(version), before, after)


def publish(cache: redis.Redis, sealed: SealedDocument) -> None:
    """Hand a document to every model server; one that is older than what Valkey holds changes nothing.

    Publishing the same version again repeats the bump, so it is safe to retry.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    keys = [DOCUMENTS, VERSIONS, GENERATION, BUMPS]
    _ask(lambda: cache.eval(_PUBLISH, len(keys), *keys, sealed.name, str(sealed.version), sealed.to_bytes()))


def published_versions(cache: redis.Redis) -> dict[str, int]:
    """Return the version that Valkey holds of each document, by ``<kind>:<key>``.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    held = cast(dict[bytes, bytes], _ask(lambda: cache.hgetall(VERSIONS)))
    return {name.decode(): int(version) for name, version in held.items()}


def mark_complete(cache: redis.Redis) -> None:
    """Note that Valkey holds every published document, so that a server that starts need not look elsewhere.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    _ask(lambda: cache.set(COMPLETE, 1, nx=True))


def live_servers(cache: redis.Redis) -> set[str]:
    """Return the ids of the model servers that gave a sign of life lately.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    found = cast(list[bytes], _ask(lambda: cache.eval(_ALIVE, 1, SERVERS, str(ALIVE_S))))
    return {server.decode() for server in found}


def read_warm(cache: redis.Redis, endpoint_id: str, number: int) -> dict[str, str]:
    """Return what servers report of a revision's warm-up, by server id: "" if it is warm, else the reason why not.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    held = cast(dict[bytes, bytes], _ask(lambda: cache.hgetall(warm_key(endpoint_id, number))))
    return {server.decode(): reason.decode() for server, reason in held.items()}


def forget_warm(cache: redis.Redis, endpoint_id: str, number: int) -> None:
    """Remove what servers reported of a revision's warm-up.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    _ask(lambda: cache.delete(warm_key(endpoint_id, number)))


def await_acknowledgement(
    cache: redis.Redis,
    sealed: SealedDocument,
    *,
    timeout_s: float = 2.0,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until every live model server holds at least this version of the document.

    Servers that come up meanwhile load the published state before they count as alive, and acknowledge when reminded.

    Returns:
        False if the time ran out, or if no server is alive.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    return _await_all(cache, sealed.name, sealed.version, timeout_s, monotonic, sleep)


def flush_servers(cache: redis.Redis, *, timeout_s: float = 3.0) -> bool:
    """Ask every live model server to write away its inference log, and wait until all have.

    Returns:
        False if the time ran out, or if no server is alive.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    number = time.time_ns()
    _ask(lambda: cache.publish(BUMPS, bump_of(FLUSH, number)))
    return _await_all(cache, FLUSH, number, timeout_s, time.monotonic, time.sleep)


def _await_all(
    cache: redis.Redis,
    name: str,
    version: int,
    timeout_s: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> bool:
    deadline, pause, remind_at = monotonic() + timeout_s, _FIRST_POLL_S, monotonic() + _REMIND_S
    while True:
        alive = live_servers(cache)
        if not alive:
            return False
        if alive <= _acknowledged(cache, name, version):
            return True
        now = monotonic()
        if now >= deadline:
            return False
        if now >= remind_at:
            _ask(lambda: cache.publish(BUMPS, bump_of(name, version)))
            remind_at = now + _REMIND_S
        sleep(pause)
        pause = min(pause * 2, _LAST_POLL_S)


def _acknowledged(cache: redis.Redis, name: str, version: int) -> set[str]:
    members = cast(set[bytes], _ask(lambda: cache.smembers(ack_key(name, version))))
    return {server.decode() for server in members}


def _ask(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except redis.RedisError as error:
        raise CacheUnavailable from error


class Channel:
    """A model server's side of the channel."""

    def __init__(self, cache: redis.asyncio.Redis, server_id: str) -> None:
        self._cache = cache
        self._server_id = server_id

    async def names(self) -> list[str]:
        """Return the names of all documents; none when some may be missing, as a revocation after a flush."""
        if not await self._cache.exists(COMPLETE):
            return []
        return [name.decode() for name in await cast(Any, self._cache.hkeys(DOCUMENTS))]

    async def read(self, names: Sequence[str]) -> list[bytes]:
        """Return the envelopes of the named documents that are there."""
        found = await cast(Any, self._cache.hmget(DOCUMENTS, names)) if names else []
        return [envelope for envelope in found if envelope is not None]

    async def read_every(self, names: Sequence[str]) -> list[bytes]:
        """Return the envelopes of the named documents.

        Raises:
            LookupError: If one is gone: Valkey was flushed since the names were read.
        """
        envelopes = await self.read(names)
        if len(envelopes) < len(names):
            raise LookupError("Valkey was flushed while its documents were read.")
        return envelopes

    async def versions(self, cursor: int) -> tuple[int, dict[str, int]]:
        """Return the published versions of some documents, and the cursor of the next; it is 0 at first and at last."""
        cursor, some = await cast(Any, self._cache.hscan(VERSIONS, cursor, count=_VERSIONS_AT_ONCE))
        return cursor, {name.decode(): int(version) for name, version in some.items()}

    async def generation(self) -> bytes:
        """Return the generation, empty after a flush."""
        return cast(bytes | None, await self._cache.get(GENERATION)) or b""

    async def pulse(self) -> bytes:
        """Give a sign of life and return the generation, empty after a flush."""
        return await cast(Any, self._cache.eval(_PULSE, 2, SERVERS, GENERATION, self._server_id)) or b""

    async def acknowledge(self, held: Mapping[str, int]) -> None:
        """Tell publishers that this server holds at least these versions, by the documents' names."""
        async with self._cache.pipeline(transaction=False) as pipe:
            for name, version in held.items():
                key = ack_key(name, version)
                pipe.sadd(key, self._server_id)
                pipe.expire(key, _ACK_TTL_S)
            await pipe.execute()

    async def report_warm(self, endpoint_id: str, number: int, reason: str) -> None:
        """Tell the publisher that this server has a revision warm (no reason), or why it has not."""
        key = warm_key(endpoint_id, number)
        async with self._cache.pipeline(transaction=False) as pipe:
            pipe.hset(key, self._server_id, reason)
            pipe.expire(key, _WARM_TTL_S)
            await pipe.execute()

    async def retract_warm(self, endpoint_id: str, number: int) -> None:
        """Take back what this server reported of a revision."""
        await cast(Any, self._cache.hdel(warm_key(endpoint_id, number), self._server_id))

    async def leave(self) -> None:
        """Stop counting as alive."""
        await cast(Any, self._cache.zrem(SERVERS, self._server_id))

    @asynccontextmanager
    async def bumps(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Subscribe, and yield an iterator of bump messages that ends with the connection's error."""
        subscription = self._cache.pubsub(ignore_subscribe_messages=True)
        try:
            await subscription.subscribe(BUMPS)
            yield _messages(subscription)
        finally:
            await cast(Any, subscription).aclose()

    async def close(self) -> None:
        """Close the connections."""
        await cast(Any, self._cache).aclose()


async def _messages(subscription: redis.asyncio.client.PubSub) -> AsyncIterator[bytes]:
    async for message in subscription.listen():
        yield message["data"]
