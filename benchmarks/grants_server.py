"""A model server in a process of its own that says, for each line on its standard input, what it uses and holds.

Arguments: its home, the URL of Valkey, and ``traced`` to count the memory of Python's objects.
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
from raymill.serving.server import ModelServer

_TICK_S = 0.001


class Stalls:
    """How long the event loop kept everything else waiting at most."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def watch(self) -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            self.worst_s = max(self.worst_s, time.perf_counter() - begun - _TICK_S)

    def take(self) -> float:
        worst, self.worst_s = self.worst_s, 0.0
        return worst


async def serve(settings: Settings, *, traced: bool) -> None:
    """Start, answer every line with a line, and stop when there are no more."""
    server, stalls = ModelServer.open(settings), Stalls()
    watching = asyncio.create_task(stalls.watch())
    # From here on VmHWM is the peak of what follows.
    Path("/proc/self/clear_refs").write_text("5")
    if traced:
        tracemalloc.start()
    begun = time.perf_counter()
    await server.start()
    load_s = time.perf_counter() - begun
    for line in iter(await _reader(), ""):
        gc.collect()
        print(json.dumps({"load_s": load_s, "stall_s": stalls.take()} | _used()), flush=True)
        del line
    watching.cancel()
    await server.stop()
