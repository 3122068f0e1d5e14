"""Fixtures of the whole suite: one PostgreSQL and one Valkey per process, rows and keys deleted between tests."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, delete, make_url, text
from sqlmodel import Session, SQLModel
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

sys.path.insert(0, str(Path(__file__).parent))

from factories import Tenant, make_tenant
from raymill.gateway.app import create_app
from raymill.kernel import cache, migrate
from raymill.kernel.db import dialect_url
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.resources import Resources
from raymill.kernel.settings import DatabaseSettings, RedisSettings, Settings
from servers import start_databases
from timing import until

# One test that takes as long as two hundred others.
LONGEST = "test_openapi_fuzz.py"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process run a file's tests in their order, where several processes share, and begin with the longest."""
    items.sort(key=lambda item: item.path.name != LONGEST)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of one PostgreSQL and one Valkey that live as long as the run."""
    database_url, redis_url, stop = start_databases(tmp_path_factory.mktemp("servers"))
    yield database_url, redis_url
    stop()


@pytest.fixture(scope="session")
def database_url(databases: tuple[str, str]) -> str:
    """URL of a PostgreSQL database, for the role that owns everything in it."""
    return databases[0]


@pytest.fixture(scope="session")
def redis_url(databases: tuple[str, str]) -> str:
    """URL of a Valkey."""
    return databases[1]


@pytest.fixture(scope="session")
def migrated_url(database_url: str) -> str:
    """URL of a database with the platform's schema, for a role that owns nothing in it."""
    url = make_url(database_url)
    app_url = url.set(username="app", password="app").render_as_string(hide_password=False)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'app'")
    urls = DatabaseSettings(url=SecretStr(app_url), admin_url=SecretStr(database_url))
    migrate.upgrade(Settings(database=urls))
    return app_url


@pytest.fixture(scope="session")
def owner(database_url: str) -> Iterator[Engine]:
    """Connections of the role that owns the tables."""
    engine = create_engine(dialect_url(database_url))
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def _empty() -> str:
    """Return what deletes all rows: for few rows a tenth of what TRUNCATE takes."""
    deletions = [str(delete(table)) for table in SQLModel.metadata.sorted_tables]
    # Without triggers, neither of foreign keys nor of the audit log.
    return ";".join(["SET LOCAL session_replication_role = replica", *deletions])


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
def resources(settings: Settings, owner: Engine, _empty: str) -> Iterator[Resources]:
    """Open connections to empty databases."""
    make_keys(settings.keys_dir)
    opened = Resources.open(settings)
    yield opened
    with cache.connect(settings.redis) as valkey:
        valkey.flushall()
    with owner.begin() as connection:
        connection.execute(text(_empty))
    opened.close()


@pytest.fixture
def session(resources: Resources) -> Iterator[Session]:
    """Open a session that commits when the test ends well."""
    with resources.session() as opened:
        yield opened


@pytest.fixture(scope="session")
def _routes() -> list[BaseRoute]:
    """Routes that FastAPI prepared, which it does at an application's first request and takes 0.1 s for."""
    return []


@pytest.fixture
def app(resources: Resources, _routes: list[BaseRoute]) -> Iterator[FastAPI]:
    """Return the control plane, with the routes of the first one of this run: they are the same in each."""
    made = create_app(resources)
    _routes[:] = _routes or made.router.routes
    made.router.routes = _routes
    yield made
    made.state.refusals.close()


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
    until(lambda: server.started, within_s=10, what="the server listens")
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
