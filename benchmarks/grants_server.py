"""The parts of a model server in a process of its own, which says for each line on its input what they use.

Arguments: the server's home, the URL of Valkey, and ``traced`` to count the memory of Python's objects.
"""

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from raymill.kernel.settings import RedisSettings, Settings
from raymill.serving.parts import Parts
from raymill.serving.published.key_table import KnownKey

_TICK_S = 0.001
_LOOK_UPS = 1000


class Stalls:
    """How long the event loop has kept everything else waiting at most, and how long it worked meanwhile."""

    def __init__(self) -> None:
        self._worst_s = self._most_work_s = 0.0

    async def watch(self) -> None:
        while True:
            begun, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_TICK_S)
            self._worst_s = max(self._worst_s, time.perf_counter() - begun - _TICK_S)
            self._most_work_s = max(self._most_work_s, time.thread_time() - worked)

    def take(self) -> dict[str, float]:
        worst = {"stall_s": self._worst_s, "stall_cpu_s": self._most_work_s}
        self._worst_s = self._most_work_s = 0.0
        return worst


async def serve(settings: Settings, *, traced: bool) -> None:
    """Load and follow the documents until the input ends."""
    parts, stalls = Parts.open(settings), Stalls()
    watching = asyncio.create_task(stalls.watch())
    # As a replica does.
    gc.collect()
    gc.freeze()
    _forget_peak()
    if traced:
        tracemalloc.start()
    begun, worked = time.perf_counter(), time.process_time()
    await parts.start()
    load = {"load_s": time.perf_counter() - begun, "load_cpu_s": time.process_time() - worked}
    while await asyncio.to_thread(sys.stdin.readline):
        held = {"projects": len(parts.directory.members), "keys": len(parts.directory.keys)}
        worst = stalls.take()
        look_up = {"look_up_s": _look_up_s(parts.directory.keys)}
        print(json.dumps(load | worst | look_up | held | _used()), flush=True)
        # The collection of garbage for the figures is no stall of the server's.
        await asyncio.sleep(_TICK_S)
        stalls.take()
    watching.cancel()
    await parts.stop()


def _look_up_s(keys: Mapping[bytes, KnownKey]) -> float:
    """Return the seconds that a key takes that was not asked for lately."""
    some = list(islice(keys, 0, None, len(keys) // _LOOK_UPS + 1))
    begun = time.process_time()
    for digest in some:
        keys.get(digest)
    return (time.process_time() - begun) / max(1, len(some))


def _used() -> dict[str, Any]:
    gc.collect()
    now, peak = tracemalloc.get_traced_memory()
    resident = psutil.Process().memory_info().rss
    return {"resident": resident, "resident_peak": _resident_peak(), "python": now, "python_peak": peak}


def _forget_peak() -> None:
    """Let the kernel's peak be that of what follows."""
    Path("/proc/self/clear_refs").write_text("5")


def _resident_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    home, url, *more = sys.argv[1:]
    given = Settings(home=Path(home), redis=RedisSettings(url=SecretStr(url)))
    asyncio.run(serve(given, traced=more == ["traced"]))
