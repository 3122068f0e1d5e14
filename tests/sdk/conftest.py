"""Fixtures of the client library's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import PASSWORD
from raymill.sdk import Client


@pytest.fixture
def member(platform_url: str) -> Iterator[Client]:
    """Return the client of a new account."""
    with Client(platform_url) as stranger:
        login = stranger.auth.register(email="ann@example.com", name="Ann", password=PASSWORD)
    with Client(platform_url, login.access_token) as client:
        yield client


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a CSV file of twenty rows."""
    path = tmp_path / "table.csv"
    path.write_text("width,height,kind\n" + "".join(f"{n},{n * 2},{'ab'[n % 2]}\n" for n in range(20)))
    return path
