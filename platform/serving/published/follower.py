"""Keeps a model server's directory current: loads it whole at start, then follows the publications.

At start the documents come from Valkey. If it is away or lacks some, they come from the object store and from this
node's own disk, of each document the later version: the controller copies to the store when it sweeps, each server to
its disk at once, so that a disk may know of a revocation that the store has not heard of. What was deleted is a
document too, with a version of its own, and no copy is ever taken away: what one of the two lacks never came there, and
the other's holds. A node that has no copies yet knows in such an outage what the store knows; that may be older.

Afterwards each bump brings one document. A check every second finds what was missed, and with everything else dead the
server goes on with what it knows.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import redis
import structlog

from ...kernel.security import TokenVerifier
from ...kernel.storage import ObjectStore
from ..errors import DocumentForged
from ..models.handover import Handover
from .channel import FLUSH, Bump, Channel, read_bump
from .copies import CopyWriter, DiskCopies, copy_uris, read_copies
from .directory import Directory
from .documents import Document, SealedDocument, read_envelope, unseal
from .table import EndpointDocument, Revision

log = structlog.get_logger(__name__)

_CHECK_S = 1.0
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 2.0
_AT_ONCE = 8
# At start so many documents more are no longer walked through by the garbage collector, which holds up a server of
# 10,000 endpoints for a second. What replaces them frees them all the same, for they hold no cycles.
_FREEZE_EACH = 500
_OUTAGES = (redis.RedisError, OSError, TimeoutError)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class _Source:
    """Where documents may be loaded from: how to list them, how to read some of them, how long each may take."""

    name: str
    names: Callable[[], Awaitable[list[str]]]
    read: Callable[[Sequence[str]], Awaitable[list[bytes]]]
    patience_s: float | None
    #: Whether what it lists, if anything, is everything, and the latest of it.
    is_whole: bool = False


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))


class Follower:
    """The tasks that follow the publications of one control plane."""

    def __init__(
        self,
        directory: Directory,
        channel: Channel,
        store: ObjectStore,
        disk: DiskCopies,
        verifier: TokenVerifier,
        *,
        heartbeat_s: float = 1.0,
        timeout_s: float = 2.0,
        flush: Callable[[], Awaitable[bool]] | None = None,
        handover: Handover | None = None,
    ) -> None:
        """Put the parts together; nothing is connected before ``start``.

        Args:
            directory: What is kept current.
            channel: The way to the publisher.
            store: Where copies of the documents lie.
            disk: Where this node keeps its own copies.
            verifier: Of the publisher's signatures.
            heartbeat_s: Seconds between two signs of life.
            timeout_s: Seconds to wait for Valkey.
            flush: Writes away what this server holds in memory, when the publisher asks; tells whether all of it went.
            handover: Loads what traffic moves to before it does.
        """
        self._directory = directory
        self._channel = channel
        self._store = store
        self._disk = disk
        self._verifier = verifier
        self._period_s = min(_CHECK_S, heartbeat_s)
        self._timeout_s = timeout_s
        self._flush = flush
        self._handover = handover
        #: Documents that are taken over when their models are loaded.
        self._moving: dict[tuple[str, int], asyncio.Task[None]] = {}
        #: All that was published until then is held; None: not known yet.
        self._generation: bytes | None = None
        #: But for documents that were refused, or whose models are being loaded.
        self._lacks_some = False
        self._taken = 0
        self._missed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._copies = CopyWriter(disk)
        self._is_loaded = False
        self._cache_is_away = False

    async def start(self) -> None:
        """Subscribe, load everything, and only then count as a live server."""
        tried = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._follow(tried), name="follow bumps"))
        try:
            async with asyncio.timeout(self._timeout_s):
                await tried.wait()
        except TimeoutError:
            log.warning("cache_silent_at_start")
        await self._load()
        await self._try_to_catch_up()
        self._is_loaded = True
        self._tasks.append(asyncio.create_task(self._pulse(), name="pulse"))
        self._tasks.append(asyncio.create_task(self._catch_up_when_behind(), name="catch up"))

    async def stop(self) -> None:
        """Stop following and stop counting as alive."""
        # redis-py swallows a cancellation that meets it while it connects, so ask until every task has ended.
        while pending := [task for task in (*self._tasks, *self._moving.values()) if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=0.1)
        self._copies.write()
        await self._copies.wait()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._channel.leave()
                await self._channel.close()
        except _OUTAGES:
            log.info("cache_away_at_stop")

    def is_alive(self) -> bool:
        """Tell whether every task is still running."""
        return all(not task.done() for task in self._tasks)

    async def _load(self) -> None:
        """Take what the sources hold, until one has all of it; what is older than what is held changes nothing."""
        for source in self._sources():
            try:
                documents = await self._load_from(source)
            except Exception as error:  # fsspec's backends raise classes of their own when a store is away
                log.warning("documents_not_loaded", source=source.name, error=str(error))
                continue
            if documents:
                log.info("documents_loaded", source=source.name, documents=documents)
            if documents and source.is_whole:
                return

    def _sources(self) -> tuple[_Source, ...]:
        patience_s = 10 * self._timeout_s
        return (
            _Source("valkey", self._channel.names, self._channel.read_every, patience_s, is_whole=True),
            _Source(
                "object store",
                lambda: asyncio.to_thread(copy_uris, self._store),
                lambda uris: asyncio.to_thread(read_copies, self._store, uris),
                patience_s,
            ),
            _Source(
                "disk",
                lambda: asyncio.to_thread(self._disk.names),
                lambda names: asyncio.to_thread(self._disk.read, names),
                None,
            ),
        )

    async def _load_from(self, source: _Source) -> int:
        """Take over all that a source holds, a few documents at a time: a million keys are 200 MB of them."""
        async with asyncio.timeout(source.patience_s):
            names = await source.names()
        for some in _batches(names):
            async with asyncio.timeout(source.patience_s):
                envelopes = await source.read(some)
            await self._take(envelopes)
            # What is not on the disk yet is in memory.
            await self._copies.wait(self._timeout_s)
        return len(names)

    async def _ask(self, answer: Awaitable[_Answer]) -> _Answer:
        async with asyncio.timeout(self._timeout_s):
            return await answer

    async def _follow(self, tried: asyncio.Event) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                async with self._channel.bumps() as bumps:
                    pause = _FIRST_PAUSE_S
                    tried.set()
                    self._missed.set()
                    async for bump in bumps:
                        await self._answer(bump)
            except _OUTAGES as error:
                log.info("bumps_interrupted", error=str(error))
                tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_S)

    async def _answer(self, message: bytes) -> None:
        try:
            bump = read_bump(message)
        except ValueError:
            log.warning("bump_not_understood", bump=message[:200].decode("latin-1"))
            return
        if bump.name != FLUSH:
            await self._follow_up(bump)
        elif self._flush is None or await self._flush():
            # Else the publisher reminds, and then it is tried again.
            await self._ask(self._channel.acknowledge({bump.name: bump.version}))

    async def _follow_up(self, bump: Bump) -> None:
        if not self._is_held(bump.name, bump.version):
            await self._take(await self._ask(self._channel.read([bump.name])))
        await self._acknowledge({bump.name: bump.version})
        if self._is_held(bump.name, bump.version):
            self._note_generation(bump)

    def _note_generation(self, bump: Bump) -> None:
        """Spare the check where nothing lies between what was held and this bump; it reads thousands of versions."""
        if bump.after and bump.before == self._generation and not self._lacks_some:
            self._generation = bump.after

    async def _pulse(self) -> None:
        """Give signs of life, however long it takes to catch up: publishers wait for those who are behind, too."""
        while True:
            try:
                if await self._ask(self._channel.pulse()) != self._generation:
                    self._missed.set()
                self._outage_is_over()
            except _OUTAGES as error:
                self._note_outage(error)
            self._copies.write()
            await asyncio.sleep(self._period_s)

    async def _catch_up_when_behind(self) -> None:
        while True:
            await self._missed.wait()
            self._missed.clear()
            await self._try_to_catch_up()

    async def _try_to_catch_up(self) -> None:
        try:
            await self._catch_up()
        except _OUTAGES as error:
            self._note_outage(error)

    async def _catch_up(self) -> None:
        """Take what Valkey holds and this server does not; no step takes longer than its timeout, the whole may."""
        generation = await self._ask(self._channel.generation())
        if generation == self._generation:
            return
        cursor, lacking = 0, 0
        while True:
            cursor, published = await self._ask(self._channel.versions(cursor))
            lacking += await self._fetch(published)
            if not cursor:
                break
        self._generation, self._lacks_some = generation, lacking > 0

    async def _fetch(self, published: dict[str, int]) -> int:
        """Take those of the documents that are not held; return how many still are not."""
        for some in _batches(self._behind(published)):
            await self._take(await self._ask(self._channel.read(some)))
            await self._acknowledge({name: published[name] for name in some})
        return len(self._behind(published))

    def _behind(self, published: dict[str, int]) -> list[str]:
        return [name for name, version in published.items() if not self._is_held(name, version)]

    async def _acknowledge(self, wanted: dict[str, int]) -> None:
        if held := {name: version for name, version in wanted.items() if self._is_held(name, version)}:
            await self._ask(self._channel.acknowledge(held))

    def _is_held(self, name: str, version: int) -> bool:
        return self._directory.version_of(name) >= version

    async def _take(self, envelopes: Iterable[bytes]) -> None:
        """Verify and apply documents; one that is forged or broken is reported and changes nothing."""
        for envelope in envelopes:
            # A thousand of them take half a second, and requests must not wait for it.
            await asyncio.sleep(0)
            try:
                sealed = read_envelope(envelope)
                if self._is_held(sealed.name, sealed.version):
                    continue
                document = unseal(sealed, self._verifier)
            except DocumentForged as error:
                log.error("document_refused", error=error.message)
                continue
            # The document of a project with a thousand keys takes 2 ms to read, and 2 ms to take over.
            await asyncio.sleep(0)
            if document is None:
                self._directory.skip(sealed.name, sealed.version)
            elif not self._moves(sealed, document) and self._directory.apply(document):
                self._copies.keep(sealed)
                self._taken += 1
                if not self._is_loaded and not self._taken % _FREEZE_EACH:
                    gc.freeze()

    def _moves(self, sealed: SealedDocument, document: Document) -> bool:
        """Tell whether the document waits for models; it is then taken over and acknowledged beside all others."""
        if not (self._is_loaded and self._handover and isinstance(document, EndpointDocument)):
            return False
        if (move := (sealed.name, sealed.version)) in self._moving:
            return True
        if awaited := self._handover.awaited(document):
            moving = self._move(self._handover, sealed, document, awaited)
            self._moving[move] = asyncio.create_task(moving, name=f"move traffic of {document.key}")
            self._moving[move].add_done_callback(lambda _: self._moving.pop(move))
        return bool(awaited)

    async def _move(
        self, handover: Handover, sealed: SealedDocument, document: EndpointDocument, awaited: list[Revision]
    ) -> None:
        await handover.load(document, awaited)
        if self._directory.apply(document):
            self._copies.keep(sealed)
        try:
            await self._acknowledge({sealed.name: sealed.version})
        except _OUTAGES as error:
            self._note_outage(error)

    def _note_outage(self, error: Exception) -> None:
        if not self._cache_is_away:
            log.warning("cache_away", error=str(error))
        self._cache_is_away = True

    def _outage_is_over(self) -> None:
        if self._cache_is_away:
            log.info("cache_back")
        self._cache_is_away = False
