"""Rate limits: over all servers by leases from memory, or by one question to Valkey, and without it by shares."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import redis.asyncio
from plane import KEY, MLP, NOWHERE, VIEWER_KEY, Plane
from servers_in_process import serving

from raymill.kernel.errors import RateLimited
from raymill.serving.edge.access import STRANGER, Caller
from raymill.serving.edge.leases import TICK_S, Leases
from raymill.serving.edge.limits import RateLimits
from raymill.serving.published.channel import SERVERS
from raymill.serving.published.table import AccessPolicy, RateLimit
from raymill.serving.records.metrics import read_metrics
from timing import Clock

INFER = "/v2/models/digits.mlp/infer"
GOOD = {"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
STEPS_PER_S = round(1 / TICK_S)


async def passes(limits: RateLimits, limit: RateLimit, caller: Caller = STRANGER, address: str = "") -> bool:
    try:
        await limits.admit("dep_1", limit, caller, address)
    except RateLimited:
        return False
    return True


class Server:
    """The limits of one server, on a clock that is moved by hand."""

    def __init__(self, url: str, clock: Clock, limit: RateLimit) -> None:
        self.cache = redis.asyncio.Redis.from_url(url)
        # A busy machine may be late; what these tests count is on the clock.
        self.leases = Leases(self.cache, monotonic=clock, now=clock, patience_s=5.0)
        self.limits = RateLimits(self.cache, self.leases, monotonic=clock, now=clock, patience_s=5.0)
        self.limit = limit
        self.due = 0.0

    async def passes(self, caller: Caller = STRANGER, address: str = "192.0.2.1") -> bool:
        return await passes(self.limits, self.limit, caller, address)

    async def load(self, per_s: float) -> int:
        """Send what falls into one step; return how many pass."""
        self.due += per_s / STEPS_PER_S
        requests, self.due = int(self.due), self.due % 1
        return sum([await self.passes() for _ in range(requests)])


@asynccontextmanager
async def servers(url: str, number: int, limit: RateLimit, clock: Clock) -> AsyncIterator[list[Server]]:
    made = [Server(url, clock, limit) for _ in range(number)]
    if url != NOWHERE:
        await made[0].cache.zadd(SERVERS, {f"srv-{index}": time.time() + 600 for index in range(number)})
    try:
        for server in made:
            await server.leases.renew()
        yield made
    finally:
        for server in made:
            await server.cache.aclose()


async def passed_in_each_step(made: list[Server], clock: Clock, seconds: int, demand) -> list[int]:
    """Load the servers as ``demand`` says of a second, one renewing after the other within each step."""
    passed = []
    for step in range(seconds * STEPS_PER_S):
        through = 0
        for server, per_s in zip(made, demand(step // STEPS_PER_S), strict=True):
            through += await server.load(per_s)
            clock.now += TICK_S / len(made)
            await server.leases.renew()
        passed.append(through)
    return passed


def windows(passed: list[int], seconds: int) -> list[int]:
    steps = seconds * STEPS_PER_S
    return [sum(passed[start : start + steps]) for start in range(len(passed) - steps + 1)]


@pytest.mark.integration
@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("rate", [50.0, 400.0])
def test_leased_limits_hold_over_all_servers(live_plane, number, rate):
    """Three times too many requests, most of them to one server, and each second to another."""

    def uneven(second: int) -> list[float]:
        return [3 * rate * (0.7 if index == second % number else 0.3 / number) for index in range(number)]

    async def run():
        clock = Clock()
        async with servers(live_plane.redis_url, number, RateLimit(requests_per_s=rate), clock) as made:
            return await passed_in_each_step(made, clock, 12, uneven)

    for count in windows(asyncio.run(run()), 10):
        assert 0.95 * 10 * rate <= count <= 1.05 * 10 * rate


@pytest.mark.integration
def test_what_stays_within_the_limit_passes(live_plane):
    async def run():
        clock = Clock()
        async with servers(live_plane.redis_url, 4, RateLimit(requests_per_s=100), clock) as made:
            return await passed_in_each_step(made, clock, 6, lambda _: [60, 20, 5, 5])

    assert sum(asyncio.run(run())) == 6 * 90


@pytest.mark.integration
def test_a_request_within_a_leased_limit_asks_nobody(live_plane):
    async def run():
        clock = Clock()
        async with servers(live_plane.redis_url, 1, RateLimit(requests_per_s=1000), clock) as [server]:
            before = live_plane.cache.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert sum([await server.passes() for _ in range(200)]) == 150
            assert live_plane.cache.info("commandstats")["cmdstat_evalsha"]["calls"] == before

    asyncio.run(run())


@pytest.mark.integration
def test_an_idle_server_gives_back_what_it_holds(live_plane):
    async def run():
        clock = Clock()
        async with servers(live_plane.redis_url, 2, RateLimit(requests_per_s=100), clock) as made:
            await passed_in_each_step(made, clock, 1, lambda _: [80, 0])
            lease = made[0].leases.of("raymill:limit:dep_1", 100)
            assert lease.tokens > 1
            await passed_in_each_step(made, clock, 1, lambda _: [0, 0])
            assert lease.tokens == pytest.approx(0, abs=0.01)
            assert not lease.is_active

    asyncio.run(run())


def test_without_valkey_a_leased_limit_is_shared_out():
    async def run():
        clock = Clock()
        async with servers(NOWHERE, 2, RateLimit(requests_per_s=100), clock) as made:
            for server in made:
                server.leases.servers = 2
            return await passed_in_each_step(made, clock, 11, lambda _: [300, 300])

    for count in windows(asyncio.run(run()), 10):
        assert 950 <= count <= 1050


@pytest.mark.integration
def test_a_slow_limit_is_exact_over_all_servers(live_plane):
    async def run():
        clock = Clock()
        async with servers(live_plane.redis_url, 2, RateLimit(requests_per_s=5), clock) as made:
            passed = await passed_in_each_step(made, clock, 4, lambda _: [200, 100])
            return windows(passed, 1)

    counts = asyncio.run(run())
    assert counts[0] in (9, 10)  # a second's worth may come at once
    assert set(counts[STEPS_PER_S:]) <= {4, 5, 6}
    assert sum(counts[STEPS_PER_S::STEPS_PER_S]) in (14, 15, 16)


@pytest.mark.integration
def test_a_flood_over_a_slow_limit_is_not_passed_on_to_valkey(live_plane):
    async def run():
        clock = Clock()
        async with servers(live_plane.redis_url, 1, RateLimit(per_caller_per_s=2), clock) as [server]:
            assert [await server.passes() for _ in range(3)] == [True, True, False]
            before = live_plane.cache.info("commandstats")["cmdstat_evalsha"]["calls"]
            assert not any([await server.passes() for _ in range(500)])
            assert live_plane.cache.info("commandstats")["cmdstat_evalsha"]["calls"] == before
            clock.now += 0.51
            assert await server.passes()

    asyncio.run(run())


@pytest.mark.integration
def test_callers_are_counted_apart_and_a_greedy_one_takes_nothing_from_the_others(live_plane):
    async def run():
        clock = Clock()
        limit = RateLimit(requests_per_s=4, per_caller_per_s=2)
        async with servers(live_plane.redis_url, 1, limit, clock) as [server]:
            greedy, modest = Caller("usr_1"), Caller("usr_2")
            assert [await server.passes(greedy) for _ in range(20)].count(True) == 2
            assert [await server.passes(modest) for _ in range(2)] == [True, True]
            # Without a credential the address counts, of IPv6 the network.
            clock.now += 10
            assert [await server.passes(address=f"2001:db8::{host}") for host in range(3)] == [True, True, False]
            assert await server.passes(address="2001:db8:0:1::1")

    asyncio.run(run())


@pytest.mark.integration
def test_a_caller_does_not_pay_for_what_the_endpoint_refuses(live_plane):
    async def run():
        clock = Clock()
        limit = RateLimit(requests_per_s=50, per_caller_per_s=50)
        async with servers(live_plane.redis_url, 1, limit, clock) as [server]:
            greedy, modest = Caller("usr_1"), Caller("usr_2")
            while await server.passes(greedy):
                await server.leases.renew()
            lease = server.leases.of("raymill:limit:dep_1:usr_2", 50)
            before = lease.tokens
            assert not any([await server.passes(modest) for _ in range(5)])
            assert lease.tokens == before

    asyncio.run(run())


@pytest.mark.alone
def test_a_silent_valkey_delays_a_slow_limit_by_20_ms_and_not_each_time():
    async def run():
        released = asyncio.Event()

        async def keep_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await released.wait()
            writer.close()

        silent = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
        cache = redis.asyncio.Redis.from_url(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}/0")
        limits, waits, passed = RateLimits(cache, Leases(cache)), [], []
        for _ in range(20):
            begun = time.perf_counter()
            passed.append(await passes(limits, RateLimit(requests_per_s=0.1)))
            waits.append(time.perf_counter() - begun)
        released.set()
        await cache.aclose()
        silent.close()
        await silent.wait_closed()
        return passed, waits

    passed, waits = asyncio.run(run())
    assert passed == [True] + 19 * [False]
    assert 0.015 < waits[0] < 0.3
    assert sum(waits[1:]) < 0.2


def publish(plane: Plane, limit: RateLimit, path, **more) -> None:
    import onnx_models

    plane.grants()
    revision = plane.revision(onnx_models.mlp(path / "mlp.onnx"), MLP)
    plane.endpoint("digits.mlp", revision, rate_limit=limit, **more)


@pytest.mark.integration
@pytest.mark.parametrize("rate", [2, 60])
def test_a_server_refuses_with_429_and_tells_what_is_left(live_plane, tmp_path, rate):
    publish(live_plane, RateLimit(requests_per_s=rate), tmp_path)

    async def run():
        async with serving(live_plane) as running:
            send = partial(running.client.post, INFER, json=GOOD, headers={"X-API-Key": KEY})
            answers = [await send()]
            while answers[-1].status_code == 200:
                answers += await asyncio.gather(*(send() for _ in range(5 if rate < 50 else 50)))
            # Who may not call at all takes nothing away.
            refused = await running.client.post(INFER, json=GOOD, headers={"X-API-Key": VIEWER_KEY})
            assert refused.status_code == 403
            return answers

    answers = asyncio.run(run())
    assert (answers[0].status_code, answers[0].headers["x-ratelimit-limit"]) == (200, str(rate))
    assert int(answers[0].headers["x-ratelimit-remaining"]) < rate
    refusal = next(answer for answer in answers if answer.status_code == 429)
    assert refusal.json()["type"] == "RATE_LIMIT_EXCEEDED"
    assert refusal.json()["details"] == {"limit": rate, "per": "the endpoint"}
    assert refusal.headers["retry-after"] == "1"
    assert refusal.headers["x-ratelimit-remaining"] == "0"
    counted = read_metrics(live_plane.cache, "dep_1")
    assert counted.requests == len(answers)
    assert counted.errors_by_type == {"RATE_LIMIT_EXCEEDED": sum(answer.status_code == 429 for answer in answers)}


@pytest.mark.integration
def test_an_address_of_a_public_endpoint_has_a_limit_of_its_own(live_plane, tmp_path):
    public = AccessPolicy(policy="public")
    publish(live_plane, RateLimit(per_caller_per_s=1), tmp_path, access=public)

    async def run():
        async with serving(live_plane) as running:
            strangers = [await running.client.post(INFER, json=GOOD) for _ in range(2)]
            known = await running.client.post(INFER, json=GOOD, headers=live_plane.bearer())
            return [answer.status_code for answer in (*strangers, known)]

    assert asyncio.run(run()) == [200, 429, 200]
