"""Valkey or Redis: only what can be rebuilt from PostgreSQL."""

import time
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import ExternalServiceError
from .settings import RedisSettings


class CacheUnavailable(ExternalServiceError):
    """Raised when Valkey does not answer."""

    def __init__(self) -> None:
        super().__init__("The cache does not answer; try again in a moment.", retry_after_s=2)


class ImpatientRedis(redis.Redis):
    """A client that, once Valkey has not answered, fails at once for a moment: a request may ask it many times."""

    PAUSE_S = 1.0
    _away_until = 0.0

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Send a command and return its answer.

        Raises:
            redis.RedisError: If Valkey refuses or does not answer.
        """
        if time.monotonic() < self._away_until:
            raise redis.ConnectionError("Valkey did not answer a moment ago.")
        try:
            return super().execute_command(*words, **options)  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError):
            self._away_until = time.monotonic() + self.PAUSE_S
            raise


def connect(settings: RedisSettings, *, patience: float = 1.0) -> redis.Redis:
    """Make a blocking client that waits for this share of the set timeout; no connection is made yet."""
    timeout_s = settings.timeout_s * patience
    client: redis.Redis = ImpatientRedis.from_url(
        _url(settings),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        # Once more when an idle connection turns out to be closed, and never when time has run out.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    return client


def connect_async(settings: RedisSettings) -> redis.asyncio.Redis:
    """Make an asyncio client; no connection is made yet."""
    return redis.asyncio.Redis.from_url(_url(settings), socket_connect_timeout=settings.timeout_s)


def _url(settings: RedisSettings) -> str:
    if settings.url is None:
        raise ExternalServiceError("No cache is configured: run 'raymill up' or set RAYMILL_REDIS__URL.")
    return settings.url.get_secret_value()
