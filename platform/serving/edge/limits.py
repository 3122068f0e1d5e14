"""The rate limits of endpoints: of all their callers together, and of each user, key or, without either, address.

From 50 requests a second up a request decides from memory, by leases. Below, tokens are too few to be handed out ahead:
the request asks Valkey, once and for 20 ms at most, and decides by this server's share of the rate when there is no
answer. What Valkey has refused is refused from memory until a token is due, so that a flood is not passed on to it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from math import ceil, inf
from typing import Any, NamedTuple

import redis.asyncio
import structlog

from ...kernel.limits import network_of
from ..errors import RateExceeded
from ..exchange import Header
from ..published.table import RateLimit
from .access import STRANGER, Caller
from .leases import Lease, Leases

log = structlog.get_logger(__name__)

#: Limits of fewer requests a second ask Valkey for each request.
LEASED_FROM_PER_S = 50.0
_PATIENCE_S, _PAUSE_S = 0.02, 0.5
_MOST_SLOW = 10_000
_Left = tuple[float, float]
_ENDLESS: _Left = (inf, 0.0)

# KEYS: buckets. ARGV: the moment (-1: Valkey's own), then rate and capacity of each. Takes a token of each or of none.
# Returns the seconds until there will be one of each, 0 if they were taken, then what each bucket has left.
_TAKE = """
local clock = redis.call('TIME')
local now = tonumber(ARGV[1])
if now < 0 then now = clock[1] + clock[2] / 1000000 end
local left, wait = {}, 0
for i = 1, #KEYS do
  local rate, capacity = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local held = redis.call('HMGET', KEYS[i], 'tokens', 'at')
  left[i] = capacity
  if held[1] then left[i] = math.min(capacity, held[1] + math.max(0, now - held[2]) * rate) end
  if left[i] < 1 then wait = math.max(wait, (1 - left[i]) / rate) end
end
local answer = {string.format('%.6f', wait)}
for i = 1, #KEYS do
  if wait == 0 then
    left[i] = left[i] - 1
    redis.call('HSET', KEYS[i], 'tokens', tostring(left[i]), 'at', string.format('%.6f', now))
    redis.call('PEXPIRE', KEYS[i], math.ceil(10000 + 1000 * ARGV[2 * i + 1] / ARGV[2 * i]))
  end
  answer[i + 1] = string.format('%.6f', left[i])
end
return answer
"""


class _Limit(NamedTuple):
    key: str
    rate: float
    whose: str


class _Slow:
    """What this server knows of a slow bucket."""

    __slots__ = ("blocked_until", "tokens", "updated_at")

    def __init__(self, now: float) -> None:
        self.blocked_until = 0.0
        # Of this server's share, for while Valkey does not answer.
        self.tokens = 1.0
        self.updated_at = now

    def take(self, share: float, now: float) -> float:
        """Take a token of the share; return the seconds until there is one, 0 if it was taken."""
        self.tokens = min(max(1.0, share), self.tokens + (now - self.updated_at) * share)
        self.updated_at = now
        if self.tokens < 1:
            return (1 - self.tokens) / share
        self.tokens -= 1
        return 0.0


class RateLimits:
    """Decides for one server whether a request comes too soon."""

    def __init__(
        self,
        cache: redis.asyncio.Redis,
        leases: Leases,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = lambda: -1.0,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """Know of no limit yet.

        Args:
            cache: Valkey, where the buckets are.
            leases: What this server holds of the limits that are leased.
            monotonic: The clock of pauses.
            now: The buckets' clock, Valkey's own unless it is given.
            patience_s: Seconds that a request waits for Valkey.
        """
        self._script = cache.register_script(_TAKE)
        self._patience_s = patience_s
        self._leases = leases
        self._monotonic = monotonic
        self._now = now
        self._slow: dict[str, _Slow] = {}
        self._ask_again_at = 0.0

    async def admit(self, endpoint_id: str, limit: RateLimit, caller: Caller, address: str) -> tuple[Header, ...]:
        """Count one request and return the headers that tell what is left.

        Raises:
            RateExceeded: If it comes too soon.
        """
        limits = _limits(endpoint_id, limit, caller, address)
        slow = [each for each in limits if each.rate < LEASED_FROM_PER_S]
        left = await self._take(slow) if slow else _ENDLESS
        taken: list[Lease] = []
        for each in limits:
            if each.rate >= LEASED_FROM_PER_S:
                taken.append(self._lease(each, taken))
                left = min(left, (taken[-1].remaining, each.rate))
        return () if left is _ENDLESS else _headers(*left)

    def _lease(self, limit: _Limit, taken: Sequence[Lease]) -> Lease:
        """Take a token, or give back those that were taken for the same request."""
        lease = self._leases.of(limit.key, limit.rate)
        if not self._leases.take(lease):
            for each in taken:
                each.tokens += 1
            raise RateExceeded(limit.rate, limit.whose, 1.0)
        return lease

    async def _take(self, limits: Sequence[_Limit]) -> _Left:
        now = self._monotonic()
        known = [self._known(limit.key, now) for limit in limits]
        for limit, slow in zip(limits, known, strict=True):
            if slow.blocked_until > now:
                raise RateExceeded(limit.rate, limit.whose, slow.blocked_until - now)
        if (answer := await self._ask(limits, now)) is None:
            return self._take_alone(limits, known, now)
        wait_s, *left = map(float, answer)
        if wait_s:
            raise _blocked(limits, known, left, now)
        return min((int(tokens), limit.rate) for tokens, limit in zip(left, limits, strict=True))

    def _take_alone(self, limits: Sequence[_Limit], known: Sequence[_Slow], now: float) -> _Left:
        for limit, slow in zip(limits, known, strict=True):
            if wait_s := slow.take(limit.rate / self._leases.servers, now):
                raise RateExceeded(limit.rate, limit.whose, wait_s)
        return min((int(slow.tokens), limit.rate) for slow, limit in zip(known, limits, strict=True))

    async def _ask(self, limits: Sequence[_Limit], now: float) -> list[bytes] | None:
        """Ask Valkey; None when it does not answer in time."""
        if now < self._ask_again_at:
            return None
        words = [word for limit in limits for word in (limit.rate, max(1.0, limit.rate))]
        asking = asyncio.ensure_future(self._script(keys=[limit.key for limit in limits], args=[self._now(), *words]))
        # Not by a timeout around it: redis-py swallows a cancellation that meets it while it connects.
        await asyncio.wait({asking}, timeout=self._patience_s)
        if asking.done() and not asking.exception():
            answer: list[bytes] = asking.result()
            return answer
        asking.cancel()
        asking.add_done_callback(_hear)
        self._ask_again_at = now + _PAUSE_S
        return None

    def _known(self, key: str, now: float) -> _Slow:
        slow = self._slow.get(key)
        if slow is None:
            if len(self._slow) >= _MOST_SLOW:
                del self._slow[next(iter(self._slow))]
            slow = self._slow[key] = _Slow(now)
        return slow


def _limits(endpoint_id: str, limit: RateLimit, caller: Caller, address: str) -> list[_Limit]:
    limits = []
    if limit.per_caller_per_s is not None:
        who = network_of(address) if caller is STRANGER else caller.id
        limits.append(_Limit(f"raymill:limit:{endpoint_id}:{who}", limit.per_caller_per_s, "a caller"))
    if limit.requests_per_s is not None:
        limits.append(_Limit(f"raymill:limit:{endpoint_id}", limit.requests_per_s, "the endpoint"))
    return limits


def _blocked(limits: Sequence[_Limit], known: Sequence[_Slow], left: Sequence[float], now: float) -> RateExceeded:
    """Note until when the empty buckets refuse, and return the refusal by the one that does longest."""
    waits = []
    for limit, slow, tokens in zip(limits, known, left, strict=True):
        if tokens < 1:
            wait_s = (1 - tokens) / limit.rate
            slow.blocked_until = now + wait_s
            waits.append((wait_s, limit))
    wait_s, limit = max(waits)
    return RateExceeded(limit.rate, limit.whose, wait_s)


def _hear(asking: "asyncio.Future[Any]") -> None:
    if not asking.cancelled() and (error := asking.exception()):
        log.info("limit_not_counted", error=type(error).__name__)


def _headers(remaining: float, rate: float) -> tuple[Header, ...]:
    return (
        (b"x-ratelimit-limit", b"%d" % ceil(rate)),
        (b"x-ratelimit-remaining", b"%d" % remaining),
        (b"x-ratelimit-reset", b"1"),
    )
