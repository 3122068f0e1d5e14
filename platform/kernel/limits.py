"""How often something may be done, counted cluster-wide in Valkey.

When Valkey does not answer, each process counts on its own until it does: a limit may then be as many times as high as
there are processes, and is never an error.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import TypeVar

import redis
import structlog
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from limits.strategies import RateLimiter as Strategy

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

# A moving window keeps the moment of each hit and reads them all, which only few hits are worth.
_MOST_MOMENTS = 100


@dataclass(frozen=True)
class Limit:
    """So many hits in so many seconds: a moving window up to 100 hits, above that one that starts with the first."""

    amount: int
    window_s: int


@dataclass(frozen=True)
class Decision:
    """Whether a hit was allowed, how many more are, and in how many seconds there will be more."""

    allowed: bool
    limit: int
    remaining: int
    reset_after_s: int


class RateLimiter:
    """Counts hits by name and key; safe for threads, and blocks for the cache's timeout at most."""

    PAUSE_S = 2.0

    def __init__(self, cache: redis.Redis, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        # The address is the pool's; the library wants one and does not use it.
        self.cache = cache
        shared = RedisStorage("redis://", connection_pool=cache.connection_pool, key_prefix="limit")
        self._shared = _Counts(shared)
        self._local = _Counts(MemoryStorage())
        self._monotonic = monotonic
        self._ask_again_at: float | None = None

    def hit(self, name: str, key: str, limit: Limit) -> Decision:
        """Count one hit, unless the limit is used up."""
        return self._ask(lambda counts: counts.hit(name, key, limit))

    def peek(self, name: str, key: str, limit: Limit) -> Decision:
        """Say what a hit would be answered, and count nothing."""
        return self._ask(lambda counts: counts.peek(name, key, limit))

    def clear(self, name: str, key: str, limit: Limit) -> None:
        """Forget all hits."""
        self._ask(lambda counts: counts.clear(name, key, limit))

    def close(self) -> None:
        """Close the connections."""
        self.cache.close()

    def _ask(self, question: "Callable[[_Counts], Answer]") -> Answer:
        if self._is_away():
            return question(self._local)
        try:
            answer = question(self._shared)
        except redis.RedisError as error:
            log.warning("limits_counted_locally", error=type(error).__name__)
            self._ask_again_at = self._monotonic() + self.PAUSE_S
            return question(self._local)
        self._ask_again_at = None
        return answer

    def _is_away(self) -> bool:
        now = self._monotonic()
        if self._ask_again_at is None:
            return False
        if now < self._ask_again_at:
            return True
        # One asks; the others go on as before until it knows.
        self._ask_again_at = now + self.PAUSE_S
        return False


def network_of(host: str) -> str:
    """Name whose requests are counted together: an address, of IPv6 the /64 that one customer has at least."""
    if ":" not in host:
        return host
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address.packed, 64), strict=False))
    return str(address)


class _Counts:
    """The counts of one storage."""

    def __init__(self, storage: RedisStorage | MemoryStorage) -> None:
        self._storage = storage
        self._moving = MovingWindowRateLimiter(storage)
        self._fixed = FixedWindowRateLimiter(storage)

    def hit(self, name: str, key: str, limit: Limit) -> Decision:
        strategy, item = self._of(limit)
        if strategy is self._moving:
            return _decision(strategy, item, (name, key), allowed=strategy.hit(item, name, key))
        # By the storage itself, whose answer is the count: the strategy would drop it and ask again.
        counter = item.key_for(name, key)
        used = self._storage.incr(counter, item.get_expiry())
        left, reset_at = item.amount - used, self._storage.get_expiry(counter)
        return _told(item, allowed=left >= 0, remaining=left, reset_at=reset_at)

    def peek(self, name: str, key: str, limit: Limit) -> Decision:
        strategy, item = self._of(limit)
        return _decision(strategy, item, (name, key))

    def clear(self, name: str, key: str, limit: Limit) -> None:
        strategy, item = self._of(limit)
        strategy.clear(item, name, key)

    def _of(self, limit: Limit) -> tuple[Strategy, RateLimitItem]:
        strategy = self._moving if limit.amount <= _MOST_MOMENTS else self._fixed
        return strategy, RateLimitItemPerSecond(limit.amount, limit.window_s)


def _decision(
    strategy: Strategy, item: RateLimitItem, names: tuple[str, str], *, allowed: bool | None = None
) -> Decision:
    stats = strategy.get_window_stats(item, *names)
    may = stats.remaining > 0 if allowed is None else allowed
    return _told(item, allowed=may, remaining=stats.remaining, reset_at=stats.reset_time)


def _told(item: RateLimitItem, *, allowed: bool, remaining: int, reset_at: float) -> Decision:
    return Decision(
        allowed=allowed,
        limit=item.amount,
        remaining=max(0, remaining),
        reset_after_s=max(1, ceil(reset_at - time.time())),
    )


__all__ = ["Decision", "Limit", "RateLimiter", "network_of"]
