"""Whether leased rate limits hold over several servers in real time: 1, 2 and 4 processes on one Valkey.

    python benchmarks/rate_limits.py

Each process is one server's limits with an event loop of its own. They ask for twice the limit, four in five requests
at one of them, each second at another. Told is the most and the least that passed in any ten seconds, of what may.
"""

import asyncio
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from machine import described, write

from raymill.compute.embedded.valkey import EmbeddedValkey
from raymill.kernel.errors import RateLimited
from raymill.serving.edge.access import STRANGER
from raymill.serving.edge.leases import Leases
from raymill.serving.edge.limits import RateLimits
from raymill.serving.published.channel import SERVERS
from raymill.serving.published.table import RateLimit

SERVERS_ASKED, RATES = (1, 2, 4), (50.0, 500.0)
SECONDS, WINDOW_S, MOST_OFF = 15, 10.0, 0.05
_STEP_S = 0.01


def serve(url: str, index: int, number: int, rate: float, ready: Any, out: Any) -> None:
    """Be one server, as soon as all are; hand back the moments at which requests passed, and what a decision took."""
    ready.wait()
    out.put(asyncio.run(_serve(url, index, number, rate)))


async def _serve(url: str, index: int, number: int, rate: float) -> tuple[list[float], float]:
    cache = redis.asyncio.Redis.from_url(url)
    leases = Leases(cache)
    limits, limit = RateLimits(cache, leases), RateLimit(requests_per_s=rate)
    await leases.renew()
    renewing = asyncio.create_task(leases.run())
    passed: list[float] = []
    spent, asked, due = 0.0, 0, 0.0
    begun_at = last = time.time()
    while (now := time.time()) < begun_at + SECONDS:
        share = 1.0 if number == 1 else 0.8 if index == int(now) % number else 0.2 / (number - 1)
        due, last = due + 2 * rate * share * (now - last), now
        while due >= 1:
            due, asked, begun = due - 1, asked + 1, time.perf_counter()
            try:
                await limits.admit("dep_1", limit, STRANGER, "")
                passed.append(time.time())
            except RateLimited:
                continue
            finally:
                spent += time.perf_counter() - begun
        await asyncio.sleep(_STEP_S)
    leases.close()
    await renewing
    await cache.aclose()
    return passed, spent / max(1, asked) * 1e6


def run(url: str, number: int, rate: float) -> dict[str, Any]:
    """Load ``number`` servers and return what passed."""
    valkey = redis.Redis.from_url(url)
    valkey.flushall()
    valkey.zadd(SERVERS, {f"srv-{index}": time.time() + 600 for index in range(number)})
    context = multiprocessing.get_context("spawn")
    out, ready = context.Queue(), context.Barrier(number)
    arguments = [(url, index, number, rate, ready, out) for index in range(number)]
    servers = [context.Process(target=serve, args=each) for each in arguments]
    for server in servers:
        server.start()
    answers = [out.get() for _ in servers]
    for server in servers:
        server.join()
    calls = valkey.info("commandstats")["cmdstat_evalsha"]["calls"]
    valkey.config_resetstat()
    # Counted from the second second on: before, and in the last one, not all processes ask.
    begin = max(passed[0] for passed, _ in answers) + 1
    moments = sorted(moment - begin for passed, _ in answers for moment in passed)
    starts = [start / 10 for start in range(int((SECONDS - WINDOW_S - 2) * 10))]
    shares = [sum(start <= moment < start + WINDOW_S for moment in moments) / (rate * WINDOW_S) for start in starts]
    micros = max(micros for _, micros in answers)
    return {
        "servers": number,
        "per_s": rate,
        "least": min(shares),
        "most": max(shares),
        "micros": micros,
        "calls_per_s": calls / SECONDS,
    }


def main() -> None:
    """Run the benchmark; exit with 2 when a limit did not hold."""
    with tempfile.TemporaryDirectory(prefix="rm-bench-") as folder:
        valkey = EmbeddedValkey(Path(folder) / "valkey", durable=False)
        valkey.start()
        try:
            rows = [run(valkey.url, number, rate) for rate in RATES for number in SERVERS_ASKED]
        finally:
            valkey.stop()
    lines = [
        f"| {row['servers']} | {row['per_s']:g}/s | {row['least']:.1%} | {row['most']:.1%} | {row['micros']:.1f} µs "
        f"| {row['calls_per_s']:.0f} |"
        for row in rows
    ]
    head = "| servers | limit | least in 10 s | most in 10 s | a decision | calls to Valkey a second |"
    write("rate_limits", {"machine": described(), "rows": rows}, "\n".join([head, "|---" * 6 + "|", *lines]))
    if any(not 1 - MOST_OFF <= row[end] <= 1 + MOST_OFF for row in rows for end in ("least", "most")):
        sys.exit(2)


if __name__ == "__main__":
    main()
