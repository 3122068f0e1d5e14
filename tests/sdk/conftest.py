"""Fixtures of the client library's tests."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from factories import PASSWORD
from raymill.sdk import Client


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
