"""What a model server is made of, opened from the settings, with its background work."""

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4
from weakref import WeakMethod

import redis
import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..kernel.cache import connect_async
from ..kernel.security import load_verifier
from ..kernel.settings import Settings
from ..kernel.storage import ObjectStore
from .descriptions import Descriptions
from .edge.access import Edge
from .edge.leases import Leases
from .edge.limits import RateLimits
from .invoke import Invoker
from .models.artifacts import ArtifactCache
from .models.dedicated import ArtifactDesk, DedicatedApps
from .models.handover import Handover
from .models.inline import InlineRuns
from .models.pool import ModelPool
from .models.quarantine import Quarantine
from .models.runners import Runners
from .models.warmup import Warmer
from .published.channel import Channel
from .published.copies import DiskCopies
from .published.directory import Directory
from .published.follower import Follower
from .records.feedback import FeedbackLog
from .records.gauges import GaugeTeller, gauges_of
from .records.journal import Journal
from .records.log import InferenceLog
from .records.metrics import Metrics, MetricsFlusher

log = structlog.get_logger(__name__)

# Loads wait for the network more than they compute, and one must not wait for another.
_LOADERS = 16
_IDLE_CHECK_S = 5.0
_LAST_PAUSES_S = (0.2, 1.0, 3.0)
# How long a background thread may keep the event loop waiting for the interpreter's lock; Python's own 5 ms would be
# several requests. With it the inference log's writing cost 28 ms at p99, now it costs nothing that can be measured.
_SWITCH_S = 0.0005


@dataclass
class Parts:
    """The parts of one model server."""

    settings: Settings
    directory: Directory
    pool: ModelPool
    quarantine: Quarantine
    invoker: Invoker
    inline: InlineRuns
    descriptions: Descriptions
    apps: DedicatedApps
    desk: ArtifactDesk
    follower: Follower
    warmer: Warmer
    flusher: MetricsFlusher
    leases: Leases
    gauges: GaugeTeller
    inference_log: InferenceLog
    feedback: FeedbackLog
    cache: redis.asyncio.Redis
    threads: tuple[ThreadPoolExecutor, ...]
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def open(cls, settings: Settings) -> "Parts":
        """Build every part; nothing is connected before ``start``.

        Raises:
            RaymillError: If the keys or the cache are not configured.
        """
        server_id = f"srv-{uuid4().hex}"
        directory, metrics, store = Directory(), Metrics(), ObjectStore(settings)
        verifier = load_verifier(settings.keys_dir, settings.auth)
        cache = _connect(settings)
        loaders = ThreadPoolExecutor(_LOADERS, thread_name_prefix="load")
        inline, runners = InlineRuns(), Runners(os.cpu_count() or 1)
        serving = settings.serving
        artifacts = ArtifactCache(store, settings.home / "cache" / "artifacts", max_bytes=serving.disk_cache_bytes)
        quarantine = _quarantine(settings)
        pool = _pool(settings, artifacts, loaders, quarantine, metrics)
        apps, leases = DedicatedApps(max_answer_bytes=serving.max_body_bytes), Leases(cache)
        inference_log = InferenceLog(store, server_id, max_rows=serving.log_buffer_rows)
        feedback = FeedbackLog(store, server_id)
        edge = Edge(directory, verifier, strangers_per_minute=serving.strangers_per_minute)
        invoker = Invoker(
            edge,
            pool,
            metrics,
            inference_log,
            inline,
            runners,
            apps,
            RateLimits(cache, leases),
            max_body_bytes=serving.max_body_bytes,
            max_queued=serving.max_queued,
        )
        return cls(
            settings=settings,
            directory=directory,
            pool=pool,
            quarantine=quarantine,
            invoker=invoker,
            inline=inline,
            descriptions=Descriptions(edge, directory, pool, cache, timeout_s=settings.redis.timeout_s),
            apps=apps,
            desk=ArtifactDesk(directory, artifacts, loaders),
            follower=Follower(
                directory,
                Channel(_connect(settings), server_id),
                store,
                DiskCopies(settings.home / "serving"),
                verifier,
                heartbeat_s=serving.heartbeat_s,
                timeout_s=settings.redis.timeout_s,
                flush=partial(_flush, inference_log, feedback),
                handover=Handover(directory, pool),
            ),
            warmer=Warmer(
                directory,
                Channel(cache, server_id),
                invoker.warm,
                period_s=serving.heartbeat_s,
                timeout_s=settings.redis.timeout_s,
            ),
            flusher=MetricsFlusher(metrics, cache, server_id),
            leases=leases,
            gauges=GaugeTeller(cache, server_id, partial(gauges_of, directory, pool, apps, inference_log, feedback)),
            inference_log=inference_log,
            feedback=feedback,
            cache=cache,
            threads=(loaders, runners.threads),
        )

    async def start(self) -> None:
        """Load the table, then follow it, warm what is new, flush metrics and log, and drop idle models."""
        sys.setswitchinterval(_SWITCH_S)
        _call_at_exit(WeakMethod(self._flush_at_exit))
        await self.follower.start()
        self.inline.start()
        flushing = (self._flush_metrics_often(), *(self._flush_often(journal) for journal in self._journals))
        work = (*flushing, self._drop_idle_often(), self.warmer.run(), self.leases.run())
        self._tasks += [asyncio.create_task(each) for each in work]

    async def stop(self) -> None:
        """Let the background work end, and write away what is still in memory."""
        self._stopping.set()
        for journal in self._journals:
            journal.press()
        self.warmer.close()
        self.leases.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush_metrics()
        await self._flush_last()
        await self.follower.stop()
        await self.apps.close()
        await self.cache.aclose()
        self.quarantine.close()
        self.inline.stop()
        for threads in self.threads:
            threads.shutdown(wait=False, cancel_futures=True)

    def is_alive(self) -> bool:
        """Tell whether all background tasks are running."""
        return self.follower.is_alive() and self.inline.is_alive() and all(not task.done() for task in self._tasks)

    async def _flush_metrics_often(self) -> None:
        while not await self._stops_within(self.settings.serving.flush_s):
            await self._flush_metrics()

    async def _flush_metrics(self) -> None:
        try:
            async with asyncio.timeout(self.settings.redis.timeout_s):
                await self.flusher.flush()
                await self.gauges.tell()
        except (redis.RedisError, OSError, TimeoutError) as error:
            log.info("metrics_kept_for_later", error=str(error))

    @property
    def _journals(self) -> tuple[Journal[Any], ...]:
        return (self.inference_log, self.feedback)

    async def _flush_often(self, journal: Journal[Any]) -> None:
        while not self._stopping.is_set():
            await journal.wait(self.settings.serving.log_flush_s)
            if not await journal.flush():
                # The rows that went back would otherwise call for the next attempt at once.
                await self._stops_within(self.settings.serving.log_flush_s)

    def _flush_at_exit(self) -> None:
        for journal in self._journals:
            journal.flush_at_exit()

    async def _flush_last(self) -> None:
        """Write the journals away, trying again for a moment while the store does not take them."""
        for pause_s in _LAST_PAUSES_S:
            if await _flush(*self._journals):
                return
            await asyncio.sleep(pause_s)
        if not await _flush(*self._journals):
            log.error("rows_lost", waiting=[len(journal) for journal in self._journals])

    async def _drop_idle_often(self) -> None:
        while not await self._stops_within(_IDLE_CHECK_S):
            self.pool.drop_idle()

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()


def _call_at_exit(method: WeakMethod[Callable[[], None]]) -> None:
    """Let a process that is told to end, as by 'raymill down', which does not call `stop`, still do this.

    Callbacks of `atexit` come too late: no executor takes work any more, and s3fs needs one for each connection.
    """

    def call() -> None:
        if found := method():
            found()

    # Private to Python; without it only the last rows may be lost.
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(call)


def _quarantine(settings: Settings) -> Quarantine:
    serving = settings.serving
    return Quarantine(
        settings.home / "cache" / "trials",
        capacity_bytes=serving.cache_bytes,
        tries_all=serving.try_models == "all",
    )


def _pool(
    settings: Settings, artifacts: ArtifactCache, loaders: Executor, quarantine: Quarantine, metrics: Metrics
) -> ModelPool:
    serving = settings.serving
    return ModelPool(
        artifacts.fetch,
        loaders,
        capacity_bytes=serving.cache_bytes,
        idle_s=serving.idle_s,
        quarantine=quarantine,
        metrics=metrics,
    )


async def _flush(*journals: Journal[Any]) -> bool:
    return all([await journal.flush() for journal in journals])


def _connect(settings: Settings) -> redis.asyncio.Redis:
    """Make a client that fails at once: the loops that use it try again by themselves, and nothing waits for them."""
    cache = connect_async(settings.redis)
    cache.set_retry(Retry(NoBackoff(), 0))
    return cache
