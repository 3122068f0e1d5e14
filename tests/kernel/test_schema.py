import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from urllib.parse import urlsplit

import pytest
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from raymill.kernel.db import dialect_url
from raymill.kernel.migrate import alembic_config
from raymill.kernel.schema import ensure_schema, is_current, newest_version
from raymill.kernel.settings import DatabaseSettings, Settings
from servers import free_ports
from timing import until

# Listens where nobody did, and passes every byte to the real server.
FORWARDER = """
import asyncio, sys

async def pass_on(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""

pytestmark = pytest.mark.integration


@pytest.fixture
def empty(database_url: str) -> Iterator[Settings]:
    name = f"empty_{token_hex(4)}"
    engine = create_engine(dialect_url(database_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = database_url.rpartition("/")[0] + f"/{name}"
    yield Settings(database=DatabaseSettings(url=SecretStr(url)))
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def test_the_newest_version_is_alembics() -> None:
    assert newest_version() == ScriptDirectory.from_config(alembic_config()).get_current_head()


def test_apps_that_start_at_once_make_one_schema(empty: Settings) -> None:
    assert not is_current(empty)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ensure_schema, [empty] * 3))
    assert is_current(empty)


def test_a_database_that_comes_later_gets_its_schema(empty: Settings) -> None:
    real = urlsplit(empty.database.url.get_secret_value() if empty.database.url else "")
    port = free_ports(1)[0]
    late = real._replace(netloc=real.netloc.replace(f":{real.port}", f":{port}")).geturl()
    ensure_schema(Settings(database=DatabaseSettings(url=SecretStr(late))))
    assert not is_current(empty)
    forwarder = subprocess.Popen([sys.executable, "-c", FORWARDER, str(port), str(real.port)])
    try:
        until(lambda: is_current(empty), within_s=20, every_s=0.1)
        for thread in threading.enumerate():
            if thread.name == "schema":
                thread.join(10)
    finally:
        forwarder.kill()
        forwarder.wait()
