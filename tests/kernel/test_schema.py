import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import pytest
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from raymill.controller.cleanup import forget_audit
from raymill.kernel.db import Database, dialect_url
from raymill.kernel.keyfiles import make_keys
from raymill.kernel.migrate import NotTheOwner, alembic_config
from raymill.kernel.resources import Resources
from raymill.kernel.schema import ensure_schema, is_current, newest_version
from raymill.kernel.settings import DatabaseSettings, RedisSettings, Settings
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
def empty(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Settings]:
    name = f"empty_{token_hex(4)}"
    engine = create_engine(dialect_url(database_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = database_url.rpartition("/")[0] + f"/{name}"
    redis = RedisSettings(url=SecretStr(redis_url))
    yield Settings(home=tmp_path, database=DatabaseSettings(url=SecretStr(url)), redis=redis)
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


def run_as(settings: DatabaseSettings, *statements: str) -> None:
    database = Database(settings)
    with database.session() as session:
        for statement in statements:
            session.execute(text(statement))
    database.close()


def of_app(settings: Settings) -> DatabaseSettings:
    """Return the settings of the role that owns nothing."""
    url = make_url(settings.database.url.get_secret_value() if settings.database.url else "")
    app_url = url.set(username="app", password="app").render_as_string(hide_password=False)
    return DatabaseSettings(url=SecretStr(app_url), admin_url=settings.database.url)


def test_rules_of_the_audit_log_that_are_not_the_codes_are_made_so_or_refused(
    empty: Settings, migrated_url: str
) -> None:
    parted = empty.model_copy(update={"database": of_app(empty)})
    ensure_schema(parted)
    unowned = parted.model_copy(update={"database": parted.database.without_owner})
    ensure_schema(unowned)
    run_as(empty.database, "COMMENT ON FUNCTION audit_change() IS 'of another version'")
    with pytest.raises(NotTheOwner, match="rules of its audit log"):
        ensure_schema(unowned)
    ensure_schema(parted)
    assert is_current(unowned)


def test_the_audit_log_forgets_what_is_older_than_its_owner_says(empty: Settings, migrated_url: str) -> None:
    parted = empty.model_copy(update={"database": of_app(empty)})
    ensure_schema(parted)
    thirty_days = parted.controller.model_copy(update={"keep_audit_days": 30})
    kept = parted.model_copy(update={"controller": thirty_days})
    unowned = kept.model_copy(update={"database": kept.database.without_owner})
    # What no owner has agreed to is not promised.
    with pytest.raises(NotTheOwner, match="KEEP_AUDIT_DAYS"):
        ensure_schema(unowned)
    ensure_schema(kept)
    row = "INSERT INTO audit (id, created_at, outcome, actor_id, repeats) VALUES ('', now(), 'done', '{}', 1)"
    run_as(empty.database, *(row.format(name) for name in ("old", "older", "young")))
    past = "UPDATE audit SET created_at = now() - interval '{} days' WHERE actor_id = '{}'"
    run_as(empty.database, past.format(31, "old"), past.format(400, "older"), past.format(29, "young"))
    make_keys(unowned.keys_dir)
    resources = Resources.open(unowned)
    forget_audit(resources, batch=1)
    with resources.session() as session:
        assert session.execute(text("SELECT actor_id FROM audit")).scalars().all() == ["young"]
    with pytest.raises(ProgrammingError, match="permission denied"), resources.session() as session:
        session.execute(text("DELETE FROM audit"))
    resources.close()
    ensure_schema(parted)
    with pytest.raises(ProgrammingError, match="audit_forget"):
        run_as(unowned.database, "SELECT audit_forget(1)")


def test_the_role_of_a_url_without_a_user_gets_its_rights(
    empty: Settings, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted = of_app(empty)
    bare = make_url(parted.url.get_secret_value() if parted.url else "").set(username=None, password=None)
    monkeypatch.setenv("PGUSER", "app")
    monkeypatch.setenv("PGPASSWORD", "app")
    nameless = parted.model_copy(update={"url": SecretStr(bare.render_as_string(hide_password=False))})
    ensure_schema(empty.model_copy(update={"database": nameless}))
    run_as(nameless, "SELECT * FROM project", "INSERT INTO lease VALUES ('one', 'me', 1, now())")
