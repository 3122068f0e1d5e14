"""What one process of the control plane holds open: settings, database, cache, object store, keys, event bus."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from sqlmodel import Session

from . import cache
from .acting import as_system
from .db import Database
from .events import EventBus, OutboxEvent, mark_delivered, recorded, undelivered
from .followers import Followers
from .limits import RateLimiter
from .security import TokenSigner, load_signer
from .settings import Settings
from .storage import ObjectStore


@dataclass(frozen=True)
class Resources:
    """The open connections of one process; pass it down, never import it."""

    settings: Settings
    database: Database
    cache: redis.Redis
    store: ObjectStore
    signer: TokenSigner
    events: EventBus
    limiter: RateLimiter
    followers: Followers

    @classmethod
    def open(cls, settings: Settings, *, app: str = "raymill") -> "Resources":
        """Prepare every connection; the audit log calls the process ``system:<app>``.

        Raises:
            RaymillError: If a part is not configured.
        """
        valkey = cache.connect(settings.redis)
        return cls(
            settings=settings,
            database=Database(settings.database, app=app),
            cache=valkey,
            store=ObjectStore(settings),
            signer=load_signer(settings.keys_dir, settings.auth),
            events=EventBus(),
            # A count is asked for before the request's own questions, which have the rest of the client's patience.
            limiter=RateLimiter(cache.connect(settings.redis, patience=0.25)),
            followers=Followers(settings.limits),
        )

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a session that commits on leaving, then delivers the events recorded in it."""
        with self.database.session() as session:
            yield session
        self._deliver(recorded(session))

    def redeliver(self) -> int:
        """Deliver what other processes recorded and did not deliver; return how many events that were."""
        with self.session() as session:
            rows = undelivered(session)
        self._deliver(rows)
        return len(rows)

    def _deliver(self, rows: list[OutboxEvent]) -> None:
        with as_system():
            if delivered := self.events.deliver(rows):
                with self.database.session() as session:
                    mark_delivered(session, delivered)

    def close(self) -> None:
        """Close every connection."""
        self.database.close()
        self.cache.close()
        self.limiter.close()
