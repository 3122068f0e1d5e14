"""The parts of a model server in a process of its own, which says for each line on its input what they use.

Arguments: the server's home, the URL of Valkey, and ``traced`` to count the memory of Python's objects.
"""

import asyncio
import gc
import json
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from raymill.kernel.settings import RedisSettings, Settings
from raymill.serving.parts import Parts

_TICK_S = 0.001


class Stalls:
    """How long the event loop has kept everything else waiting at most."""

    def __init__(self) -> None:
        self._worst_s = 0.0

    async def watch(self) -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            self._worst_s = max(self._worst_s, time.perf_counter() - begun - _TICK_S)

    def take(self) -> float:
        worst, self._worst_s = self._worst_s, 0.0
        return worst


async def serve(settings: Settings, *, traced: bool) -> None:
    """Load and follow the documents until the input ends."""
    parts, stalls = Parts.open(settings), Stalls()
    watching = asyncio.create_task(stalls.watch())
    gc.collect()
    _forget_peak()
    if traced:
        tracemalloc.start()
    begun = time.perf_counter()
    await parts.start()
    load_s = time.perf_counter() - begun
    while await asyncio.to_thread(sys.stdin.readline):
        held = {"projects": len(parts.directory.members), "keys": len(parts.directory.keys)}
        print(json.dumps({"load_s": load_s, "stall_s": stalls.take()} | held | _used()), flush=True)
        # The collection of garbage for the figures is no stall of the server's.
        await asyncio.sleep(_TICK_S)
        stalls.take()
    watching.cancel()
    await parts.stop()


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
