"""Fixtures of the whole suite."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from servers import start_databases  # noqa: E402


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of one PostgreSQL and one Valkey that live as long as the run."""
    database_url, redis_url, stop = start_databases(tmp_path_factory.mktemp("servers"))
    yield database_url, redis_url
    stop()


@pytest.fixture(scope="session")
def database_url(databases: tuple[str, str]) -> str:
    """URL of an empty PostgreSQL database."""
    return databases[0]


@pytest.fixture(scope="session")
def redis_url(databases: tuple[str, str]) -> str:
    """URL of an empty Valkey."""
    return databases[1]
