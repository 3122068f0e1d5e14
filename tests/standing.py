"""Open resources on the run's databases that all tests of a module share, emptied at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from raymill.gateway.app import create_app
from raymill.kernel import cache
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.resources import Resources
from raymill.kernel.settings import DatabaseSettings, LimitSettings, RedisSettings, Settings


@contextmanager
def standing(urls: tuple[str, str], home: Path, owner: Engine, empty: str) -> Iterator[Resources]:
    """Open connections to PostgreSQL and Valkey, for more requests than one address may usually send."""
    database_url, redis_url = urls
    settings = Settings(
        home=home,
        database=DatabaseSettings(url=SecretStr(database_url), silence_s=10, connect_timeout_s=10),
        redis=RedisSettings(url=SecretStr(redis_url), timeout_s=10),
        limits=LimitSettings(principal_per_minute=10**6, address_per_minute=10**6),
    )
    make_keys(settings.keys_dir)
    resources = Resources.open(settings)
    yield resources
    with cache.connect(settings.redis) as valkey:
        valkey.flushall()
    with owner.begin() as connection:
        connection.execute(text(empty))
    resources.close()


@contextmanager
def calling(resources: Resources) -> Iterator[TestClient]:
    """Call a control plane on these resources; a crash is an answer."""
    app: FastAPI = create_app(resources)
    with TestClient(app, root_path="/api", raise_server_exceptions=False) as client:
        yield client
    app.state.refusals.close()
