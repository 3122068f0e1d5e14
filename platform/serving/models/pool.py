"""The models that one process holds: loaded on first use, bounded in bytes, dropped when idle.

Everything here runs on the event loop, so nothing is locked; only opening a model (fetch, check, load) runs in threads.
Loads of one model are shared, loads of several run beside each other, and neither holds up requests of models that are
there. A model that is running in a thread is never dropped.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, cast

import structlog

from ..errors import ModelBroken, ModelUnavailable
from ..formats import PoolLoader, PoolModel, loader_of
from ..pace import Pace
from ..published.table import Revision
from ..records.metrics import Meter, Metrics
from .quarantine import Quarantine
from .runners import Turns

if TYPE_CHECKING:
    from .lines import Line

log = structlog.get_logger(__name__)

#: Where an artifact lies, and its digest: one project's loss of a file is not another's that has the same.
_Source = tuple[str, str]

_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 30.0
_REMEMBERED_FAILURES = 1000
# One project's loads leave threads to the others': of those that load, and of those that wait for trials.
_LOADS_PER_PROJECT = 3


class ModelTooLarge(ModelBroken):
    """Raised when a model would not fit into the pool even if it were alone there."""


class Loaded:
    """A model in the pool."""

    __slots__ = ("halt", "in_use", "last_used", "line", "meter", "model", "pace", "size_bytes")

    def __init__(self, model: PoolModel, meter: Meter | None, now: float) -> None:
        self.model = model
        #: Ends a run on the event loop, where there is one at a time.
        self.halt = model.halt()
        #: The revision that it was loaded for; others may share it.
        self.meter = meter
        self.size_bytes = model.size_bytes
        self.pace = Pace()
        #: Requests that wait for a thread to run it; made for the first.
        self.line: Line | None = None
        self.last_used = now
        #: Threads that are running it at this moment.
        self.in_use = 0


class _Failure:
    __slots__ = ("error", "made_at", "retry_at", "wait_s")

    def __init__(self, error: ModelBroken | ModelUnavailable, made_at: float, wait_s: float, now: float) -> None:
        self.error = error
        #: When the revision was made: a later one is tried without waiting.
        self.made_at = made_at
        self.wait_s = wait_s
        self.retry_at = now + wait_s


class ModelPool:
    """Loaded models by the digest of their artifact, least recently used first."""

    def __init__(
        self,
        fetch: Callable[[Revision], Path],
        executor: Executor,
        *,
        capacity_bytes: int,
        idle_s: float,
        quarantine: Quarantine | None = None,
        metrics: Metrics | None = None,
        loaders: Callable[[str], PoolLoader] = loader_of,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._executor = executor
        self._capacity_bytes = capacity_bytes
        self._idle_s = idle_s
        self._quarantine = quarantine
        self._metrics = metrics or Metrics()
        self._loaders = loaders
        self._monotonic = monotonic
        self._models: OrderedDict[str, Loaded] = OrderedDict()
        self._opening: dict[_Source, asyncio.Task[Loaded]] = {}
        self._failures: OrderedDict[_Source, _Failure] = OrderedDict()
        self._turns = Turns(_LOADS_PER_PROJECT)
        self._reserved_bytes = 0
        #: Bytes of the models that are loaded now.
        self.size_bytes = 0
        self.loads = 0
        self.evictions = 0

    def find(self, revision: Revision) -> Loaded | None:
        """Return the revision's model if it is loaded, and note its use."""
        loaded = self._models.get(revision.sha256)
        if loaded is not None:
            loaded.last_used = self._monotonic()
            self._models.move_to_end(revision.sha256)
        return loaded

    async def load(self, revision: Revision, meter: Meter | None = None) -> Loaded:
        """Return the revision's model, loading it if need be; a caller that gives up does not stop the load.

        Args:
            revision: Whose model.
            meter: Under which the load is counted, and its end.

        Raises:
            ModelBroken: If the artifact cannot be served; tried again after a growing pause.
            ModelUnavailable: If the artifact cannot be fetched now.
        """
        if loaded := self.find(revision):
            return loaded
        self._check_failure(revision)
        task = self._opening.get(_source(revision))
        if task is None:
            task = asyncio.create_task(self._open(revision, meter), name=f"load {revision.sha256[:12]}")
            self._opening[_source(revision)] = task
            task.add_done_callback(lambda done: self._opened(revision, done))
        return await asyncio.shield(task)

    def is_failing(self, revision: Revision) -> bool:
        """Tell whether the last attempt to load this revision failed."""
        return _source(revision) in self._failures

    def hold(self, loaded: Loaded) -> None:
        """Keep the model in memory until it is released; for runs that leave the event loop."""
        loaded.in_use += 1

    def release(self, loaded: Loaded) -> None:
        """End a hold."""
        loaded.in_use -= 1
        if self.size_bytes > self._capacity_bytes:
            self._make_room(0)

    def held(self) -> list[Loaded]:
        """Return the models in memory."""
        return list(self._models.values())

    def drop_idle(self) -> None:
        """Drop the models that nobody has used for the idle time."""
        before = self._monotonic() - self._idle_s
        for digest in [d for d, loaded in self._models.items() if loaded.last_used < before and not loaded.in_use]:
            self._drop(digest)

    def _check_failure(self, revision: Revision) -> None:
        failure = self._failures.get(_source(revision))
        if failure and revision.made_at <= failure.made_at and self._monotonic() < failure.retry_at:
            raise type(failure.error)(failure.error.message, retry_after_s=failure.error.retry_after_s)

    async def _open(self, revision: Revision, meter: Meter | None) -> Loaded:
        if revision.size_bytes > self._capacity_bytes:
            raise self._too_large(revision.size_bytes)
        project = revision.uri.partition("/")[0]
        async with self._turns.of(project):
            self._make_room(revision.size_bytes)
            self._reserved_bytes += revision.size_bytes
            try:
                model = await self._read(revision)
            finally:
                self._reserved_bytes -= revision.size_bytes
        return self._insert(revision, model, meter)

    async def _read(self, revision: Revision) -> PoolModel:
        loop, quarantine = asyncio.get_running_loop(), self._quarantine
        model = await loop.run_in_executor(self._executor, self._open_file, revision)
        if quarantine and isinstance(model, Path):
            # Apart from the threads that load, which others wait for.
            await loop.run_in_executor(quarantine.executor, quarantine.try_out, revision, model)
            model = await loop.run_in_executor(self._executor, self._open_watched, quarantine, revision, model)
        return cast(PoolModel, model)

    def _open_file(self, revision: Revision) -> PoolModel | Path:
        """Return the model, or the path of an artifact that must stand a trial first."""
        load = self._loaders(revision.format)
        if self._quarantine is None:
            return load(self._fetch(revision), revision.signature)
        must_try = self._quarantine.must_try(revision)
        path = self._fetch(revision)
        return path if must_try else self._open_watched(self._quarantine, revision, path)

    def _open_watched(self, quarantine: Quarantine, revision: Revision, path: Path) -> PoolModel:
        with quarantine.watch(revision):
            return self._loaders(revision.format)(path, revision.signature)

    def _insert(self, revision: Revision, model: PoolModel, meter: Meter | None) -> Loaded:
        if loaded := self.find(revision):
            # The same bytes came from another place meanwhile.
            return loaded
        loaded = Loaded(model, meter, self._monotonic())
        if loaded.size_bytes > self._capacity_bytes:
            raise self._too_large(loaded.size_bytes)
        self._make_room(loaded.size_bytes)
        self._models[revision.sha256] = loaded
        self.size_bytes += loaded.size_bytes
        self.loads += 1
        if meter:
            self._metrics.loaded(meter)
        return loaded

    def _too_large(self, size_bytes: int) -> ModelTooLarge:
        return ModelTooLarge(
            f"The model takes {size_bytes} bytes and the pool holds {self._capacity_bytes}: raise serving.cache_bytes."
        )

    def _opened(self, revision: Revision, task: asyncio.Task[Loaded]) -> None:
        del self._opening[_source(revision)]
        if task.cancelled():
            return
        error = task.exception()
        previous = self._failures.pop(_source(revision), None)
        if error is None:
            return
        log.warning("model_not_loaded", sha256=revision.sha256, format=revision.format, error=str(error))
        if isinstance(error, ModelBroken | ModelUnavailable):
            wait_s = min(previous.wait_s * 2, _LAST_RETRY_S) if previous else _FIRST_RETRY_S
            self._failures[_source(revision)] = _Failure(error, revision.made_at, wait_s, self._monotonic())
        if len(self._failures) > _REMEMBERED_FAILURES:
            self._failures.popitem(last=False)

    def _make_room(self, incoming_bytes: int) -> None:
        """Drop models, least recently used first, until the incoming bytes fit or only models in use are left."""
        allowed = self._capacity_bytes - self._reserved_bytes - incoming_bytes
        if self.size_bytes <= allowed:
            return
        for digest, loaded in [(digest, loaded) for digest, loaded in self._models.items() if not loaded.in_use]:
            self._drop(digest)
            self.evictions += 1
            if loaded.meter:
                self._metrics.evicted(loaded.meter)
            if self.size_bytes <= allowed:
                return

    def _drop(self, digest: str) -> None:
        loaded = self._models.pop(digest)
        self.size_bytes -= loaded.size_bytes
        # The line knows how to hold the model: without it the memory is free now, and not when garbage is collected.
        loaded.line = None


def _source(revision: Revision) -> _Source:
    return revision.uri, revision.sha256
