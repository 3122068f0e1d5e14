"""Fixtures of the whole suite: one PostgreSQL and one Valkey per run, rows and keys deleted between tests."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import Session, SQLModel
from starlette.applications import Starlette
from starlette.routing import Mount

sys.path.insert(0, str(Path(__file__).parent))

from factories import Tenant, make_tenant
from raymill.gateway.app import create_app
from raymill.kernel import cache, migrate
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.resources import Resources
from raymill.kernel.settings import DatabaseSettings, RedisSettings, Settings
from servers import start_databases


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of one PostgreSQL and one Valkey that live as long as the run."""
    database_url, redis_url, stop = start_databases(tmp_path_factory.mktemp("servers"))
    yield database_url, redis_url
    stop()


@pytest.fixture(scope="session")
def database_url(databases: tuple[str, str]) -> str:
    """URL of a PostgreSQL database."""
    return databases[0]


@pytest.fixture(scope="session")
def redis_url(databases: tuple[str, str]) -> str:
    """URL of a Valkey."""
    return databases[1]


@pytest.fixture(scope="session")
def migrated_url(database_url: str) -> str:
    """URL of a database with the platform's schema."""
    migrate.upgrade(Settings(database=DatabaseSettings(url=SecretStr(database_url))))
    return database_url


@pytest.fixture(scope="session")
def _truncate() -> str:
    tables = ", ".join(f'"{table.name}"' for table in SQLModel.metadata.sorted_tables)
    return f"TRUNCATE {tables} CASCADE"


@pytest.fixture
def settings(migrated_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a platform with a home of its own."""
    return Settings(
        home=tmp_path,
        # A loaded machine is no outage.
        database=DatabaseSettings(url=SecretStr(migrated_url), silence_s=10, connect_timeout_s=10),
        redis=RedisSettings(url=SecretStr(redis_url), timeout_s=10),
    )


@pytest.fixture
def resources(settings: Settings, _truncate: str) -> Iterator[Resources]:
    """Open connections to empty databases."""
    make_keys(settings.keys_dir)
    opened = Resources.open(settings)
    yield opened
    with cache.connect(settings.redis) as valkey:
        valkey.flushall()
    with opened.database.engine.begin() as connection:
        connection.execute(text(_truncate))
    opened.close()


@pytest.fixture
def session(resources: Resources) -> Iterator[Session]:
    """Open a session that commits when the test ends well."""
    with resources.session() as opened:
        yield opened


@pytest.fixture
def app(resources: Resources) -> FastAPI:
    """Return the control plane."""
    return create_app(resources)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """Call the control plane without a login; a crash is an answer here, not an exception."""
    with TestClient(app, root_path="/api", raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def platform_url(app: FastAPI) -> Iterator[str]:
    """Serve the control plane on a free port and return its URL."""
    served = Starlette(routes=[Mount("/api", app)])
    server = uvicorn.Server(uvicorn.Config(served, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def alice(client: TestClient) -> Tenant:
    """Return a user with a project of her own."""
    return make_tenant(client, "alice")


@pytest.fixture
def bob(client: TestClient) -> Tenant:
    """Return another user with another project."""
    return make_tenant(client, "bob")
