"""Shares of cluster-wide token buckets, which a server takes ahead of need so that a request decides from memory.

    raymill:limit:<what is limited>   hash   tokens, and the moment of that count; lives ten seconds after its last use

Twenty times a second a server asks Valkey, in one call for all buckets in use, for as many tokens as its requests of
the last moments will take, and gives back what it holds too many of. Between two calls it may owe a little, so that the
first requests after a pause need not wait: debts are paid from the next tokens, so that over time no more pass than the
rate. What servers hold and owe and what the bucket keeps is less than half a second's worth: in any ten seconds 5 %.
Without Valkey each server lives on its share, the rate divided by the servers that were last alive.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
import structlog

from ..published.channel import ALIVE_S, SERVERS

log = structlog.get_logger(__name__)

TICK_S = 0.05
# Of the rate: what the bucket keeps, what a server's share may owe, what its demand holds ahead.
BURST_S, _DEBT_S, _AHEAD_S = 0.15, 0.15, 0.1
_IDLE_TICKS = 4
_IDLE_S = 1.0
_DUST = 1e-3
_PATIENCE_S, _PAUSE_S = 0.1, 1.0
_KEYS_PER_CALL = 200
_MOST_LEASES = 10_000
_OUTAGES = (redis.RedisError, OSError, TimeoutError)

# KEYS: servers, then buckets. ARGV: the moment (-1: Valkey's own), the seconds within which a server counts as alive,
# then rate, capacity and tokens wanted (negative: given back) of each bucket. Returns servers, then tokens.
_LEASE = """
local clock = redis.call('TIME')
local moment = clock[1] + clock[2] / 1000000
local now = tonumber(ARGV[1])
if now < 0 then now = moment end
local answer = {redis.call('ZCOUNT', KEYS[1], moment - ARGV[2], '+inf')}
for i = 2, #KEYS do
  local rate, capacity, want = tonumber(ARGV[3 * i - 3]), tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  local held = redis.call('HMGET', KEYS[i], 'tokens', 'at')
  local tokens = capacity
  if held[1] then tokens = math.min(capacity, held[1] + math.max(0, now - held[2]) * rate) end
  local given = math.min(want, math.max(tokens, 0))
  redis.call('HSET', KEYS[i], 'tokens', tostring(math.min(capacity, tokens - given)), 'at', string.format('%.6f', now))
  redis.call('PEXPIRE', KEYS[i], 10000)
  answer[i] = string.format('%.6f', given)
end
return answer
"""


class Lease:
    """What one server holds of one bucket; below zero it owes."""

    __slots__ = ("asked", "demand", "floor", "idle", "is_active", "key", "rate", "tokens")

    def __init__(self, key: str, rate: float, servers: int) -> None:
        self.key = key
        self.rate = rate
        self.tokens = 0.0
        self.floor = 0.0
        self.asked = 0
        self.demand = 0.0
        self.idle = 0
        self.is_active = False
        self.share_among(servers)

    @property
    def remaining(self) -> int:
        """Requests that this server lets pass without another call."""
        return max(0, int(self.tokens - self.floor))

    @property
    def is_done(self) -> bool:
        """Whether nobody has asked for a while and nothing is owed."""
        return self.idle >= _IDLE_TICKS and not self.asked and self.tokens > -_DUST

    def share_among(self, servers: int) -> None:
        """Note how many servers divide the rate."""
        self.floor = -max(1.0, self.rate / servers * _DEBT_S)

    def want(self, seconds: float) -> float:
        """Return the tokens to ask for after so many seconds; negative are given back."""
        self.demand += (self.asked / seconds - self.demand) / 2
        self.idle = 0 if self.asked else self.idle + 1
        self.asked = 0
        if self.idle >= _IDLE_TICKS:
            return -self.tokens
        return min(self.demand, self.rate) * _AHEAD_S - self.tokens

    def grow(self, tokens: float) -> None:
        """Take tokens of the server's own share, while nobody knows what the others take."""
        self.tokens = max(self.tokens, min(self.tokens + tokens, 0.0))


class Leases:
    """The leases of one server, and the task that renews them."""

    def __init__(
        self,
        cache: redis.asyncio.Redis,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = lambda: -1.0,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """Hold nothing.

        Args:
            cache: Valkey, where the buckets are.
            monotonic: The clock of demands and pauses.
            now: The buckets' clock, Valkey's own unless it is given.
            patience_s: Seconds to wait for Valkey.
        """
        self._script = cache.register_script(_LEASE)
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._now = now
        self._held: dict[str, Lease] = {}
        self._active: dict[str, Lease] = {}
        self._wanted = asyncio.Event()
        self._renewed_at = monotonic()
        self._ask_again_at = 0.0
        self._is_closed = False
        #: Servers that were alive when Valkey last answered.
        self.servers = 1

    def of(self, key: str, rate: float) -> Lease:
        """Return the lease of a bucket; of too many the oldest is forgotten."""
        lease = self._held.get(key)
        if lease is None or lease.rate != rate:
            if len(self._held) >= _MOST_LEASES:
                self._forget(next(iter(self._held.values())))
            lease = self._held[key] = Lease(key, rate, self.servers)
        return lease

    def take(self, lease: Lease) -> bool:
        """Let one request pass, if there is a token for it."""
        if not lease.is_active:
            self._activate(lease)
        lease.asked += 1
        if lease.tokens - 1 < lease.floor:
            return False
        lease.tokens -= 1
        return True

    async def run(self) -> None:
        """Renew until closed: often while requests come, and every second what is held in idle times."""
        while not self._is_closed:
            await self._pause()
            if self._held:
                await self.renew()

    def close(self) -> None:
        """Let ``run`` end."""
        self._is_closed = True
        self._wanted.set()

    async def renew(self) -> None:
        """Ask for tokens and give back; without Valkey take the server's own share."""
        now = self._monotonic()
        seconds, self._renewed_at = max(now - self._renewed_at, 1e-3), now
        leases = list(self._active.values())
        if not await self._exchange(leases, [lease.want(seconds) for lease in leases], now):
            for lease in leases:
                lease.grow(seconds * lease.rate / self.servers)
        for lease in leases:
            if lease.is_done:
                self._forget(lease)

    async def _exchange(self, leases: Sequence[Lease], wants: Sequence[float], now: float) -> bool:
        if now < self._ask_again_at:
            return False
        try:
            async with asyncio.timeout(self._patience_s):
                for start in range(0, max(1, len(leases)), _KEYS_PER_CALL):
                    some = slice(start, start + _KEYS_PER_CALL)
                    await self._ask(leases[some], wants[some])
        except _OUTAGES as error:
            log.warning("limits_shared_without_cache", servers=self.servers, error=type(error).__name__)
            self._ask_again_at = now + _PAUSE_S
            return False
        return True

    async def _ask(self, leases: Sequence[Lease], wants: Sequence[float]) -> None:
        words: list[Any] = [self._now(), ALIVE_S]
        for lease, want in zip(leases, wants, strict=True):
            words += (lease.rate, max(1.0, lease.rate * BURST_S), want)
        servers, *given = await self._script(keys=[SERVERS, *(lease.key for lease in leases)], args=words)
        self.servers = max(1, servers)
        for lease, tokens in zip(leases, given, strict=True):
            lease.tokens += float(tokens)
            lease.share_among(self.servers)

    def _activate(self, lease: Lease) -> None:
        lease.is_active, lease.idle = True, 0
        self._active[lease.key] = lease
        self._wanted.set()

    def _forget(self, lease: Lease) -> None:
        lease.is_active = False
        for leases in (self._active, self._held):
            if leases.get(lease.key) is lease:
                del leases[lease.key]
        if not self._active:
            self._wanted.clear()

    async def _pause(self) -> None:
        """Wait for one tick where requests come, and else until one comes."""
        if self._active:
            await asyncio.sleep(TICK_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await self._wanted.wait()
