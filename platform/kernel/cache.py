"""Valkey or Redis: only what can be rebuilt from PostgreSQL."""

import redis
import redis.asyncio

from .errors import ExternalServiceError
from .settings import RedisSettings


class CacheUnavailable(ExternalServiceError):
    """Raised when Valkey does not answer."""

    def __init__(self) -> None:
        super().__init__("The cache does not answer; try again in a moment.", retry_after_s=2)


def connect(settings: RedisSettings) -> redis.Redis:
    """Make a blocking client; no connection is made yet."""
    return redis.Redis.from_url(
        _url(settings), socket_timeout=settings.timeout_s, socket_connect_timeout=settings.timeout_s
    )


def connect_async(settings: RedisSettings) -> redis.asyncio.Redis:
    """Make an asyncio client; no connection is made yet."""
    return redis.asyncio.Redis.from_url(_url(settings), socket_connect_timeout=settings.timeout_s)


def _url(settings: RedisSettings) -> str:
    if settings.url is None:
        raise ExternalServiceError("No cache is configured: run 'raymill up' or set RAYMILL_REDIS__URL.")
    return settings.url.get_secret_value()
