"""Limits are counted for the whole cluster, and by each process alone while Valkey is away."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from pydantic import SecretStr

from raymill.compute.embedded.valkey import EmbeddedValkey
from raymill.kernel import cache
from raymill.kernel.limits import Limit, RateLimiter
from raymill.kernel.resources import Resources
from raymill.kernel.settings import RedisSettings

pytestmark = pytest.mark.integration

FEW = Limit(3, 60)
MANY = Limit(150, 60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey of its own, because it is suspended."""
    valkey = EmbeddedValkey(tmp_path_factory.mktemp("valkey"), durable=False)
    valkey.start()
    yield valkey
    valkey.destroy()


@pytest.fixture
def own_cache(server: EmbeddedValkey) -> Iterator[redis.Redis]:
    """A client of that server with a short patience."""
    with cache.connect(RedisSettings(url=SecretStr(server.url), timeout_s=0.3)) as client:
        client.flushall()
        yield client


@pytest.mark.parametrize("limit", [FEW, MANY])
def test_processes_share_one_count(resources: Resources, limit: Limit) -> None:
    one, other = RateLimiter(resources.cache), RateLimiter(cache.connect(resources.settings.redis))
    decisions = [(one, other)[n % 2].hit("login", "carol", limit) for n in range(limit.amount + 1)]
    assert [decision.allowed for decision in decisions] == [True] * limit.amount + [False]
    assert [decision.remaining for decision in decisions[-2:]] == [0, 0]
    assert decisions[0].remaining == limit.amount - 1
    assert 1 <= decisions[-1].reset_after_s <= 60


def test_names_and_keys_are_counted_apart(resources: Resources) -> None:
    for _ in range(3):
        resources.limiter.hit("login", "carol", FEW)
    assert not resources.limiter.hit("login", "carol", FEW).allowed
    assert resources.limiter.hit("login", "dave", FEW).allowed
    assert resources.limiter.hit("register", "carol", FEW).allowed


def test_never_exceeded_by_hits_at_once(resources: Resources) -> None:
    with ThreadPoolExecutor(16) as pool:
        decisions = list(pool.map(lambda _: resources.limiter.hit("login", "carol", Limit(10, 60)), range(60)))
    assert sum(decision.allowed for decision in decisions) == 10


def test_a_look_counts_nothing_and_clearing_forgets(resources: Resources) -> None:
    for _ in range(5):
        assert resources.limiter.peek("login", "carol", FEW).allowed
    for _ in range(3):
        resources.limiter.hit("login", "carol", FEW)
    assert not resources.limiter.peek("login", "carol", FEW).allowed
    resources.limiter.clear("login", "carol", FEW)
    assert resources.limiter.hit("login", "carol", FEW).remaining == 2


@pytest.mark.alone
def test_a_silent_valkey_costs_one_wait_and_no_error(server: EmbeddedValkey, own_cache: redis.Redis) -> None:
    now = [0.0]
    limiter = RateLimiter(own_cache, monotonic=lambda: now[0])
    limiter.hit("login", "carol", FEW)
    pid = int(own_cache.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        first, seconds = _timed(limiter)
        rest = [_timed(limiter) for _ in range(3)]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert first
    assert seconds < 1.0
    assert [allowed for allowed, _ in rest] == [True, True, False]
    assert max(seconds for _, seconds in rest) < 0.1
    now[0] = RateLimiter.PAUSE_S
    # The suspended server may have counted the hit that nobody waited for; the first one it surely did.
    assert limiter.hit("login", "carol", FEW).remaining in (0, 1)


def _timed(limiter: RateLimiter) -> tuple[bool, float]:
    started = time.monotonic()
    return limiter.hit("login", "carol", FEW).allowed, time.monotonic() - started
