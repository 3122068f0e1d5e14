"""A disk without room: refused in time, nothing half-written, well again as soon as space is freed."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.kernel.db import Database
from raymill.kernel.disk import require_room
from raymill.kernel.errors import DiskFull
from raymill.kernel.settings import DatabaseSettings, Settings, StorageSettings
from raymill.kernel.storage import ObjectStore
from raymill.kernel.uploads import spooled
from small_disk import fill, small_disk

MB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 80 MB: 16 MB above what is kept free."""
    with small_disk(tmp_path, size_bytes=80 * MB) as folder:
        yield folder


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def spool(folder: Path, size_bytes: int) -> int:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(size_bytes // MB):
            yield bytes(MB)

    async def run() -> int:
        async with spooled(body(), folder=folder, limit_bytes=1000 * MB) as path:
            return path.stat().st_size

    return asyncio.run(run())


def test_an_upload_stops_before_the_disk_is_full(disk: Path) -> None:
    with pytest.raises(DiskFull):
        spool(disk, 40 * MB)
    assert files(disk) == []
    assert spool(disk, 8 * MB) == 8 * MB


def test_a_full_disk_is_refused_until_space_is_freed(disk: Path) -> None:
    require_room(disk)
    filler = fill(disk)
    with pytest.raises(DiskFull):
        require_room(disk)
    filler.unlink()
    require_room(disk)


def test_the_object_store_leaves_nothing_half_written(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = ObjectStore(Settings(home=disk, storage=StorageSettings(url=f"file://{disk}/objects")))
    source = tmp_path_factory.mktemp("source") / "big"
    source.write_bytes(bytes(4 * MB))
    filler = fill(disk, leave_bytes=2 * MB)
    for write in (lambda: store.put_file("prj_1", source), lambda: store.put_document("a/b", bytes(4 * MB))):
        with pytest.raises(DiskFull):
            write()
    assert files(disk) == ["filler"]
    filler.unlink()
    store.put_document("a/b", b"whole")
    assert store.get_document(store.put_file("prj_1", source).uri) == source.read_bytes()


@pytest.mark.integration
def test_a_database_on_a_full_disk_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write = text("CREATE TABLE IF NOT EXISTS t AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
    with TemporaryDirectory() as folder, small_disk(Path(folder), size_bytes=200 * MB) as disk:
        # As root the server has another account, and its data lies in the temporary folder.
        disk.chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        server = EmbeddedPostgres(disk / "postgres", durable=False)
        server.start()
        database = Database(DatabaseSettings(url=SecretStr(server.admin_url)))
        database.ping()
        filler = fill(disk)
        try:
            with pytest.raises(DiskFull), database.session() as session:
                session.execute(write)
            database.ping()
            filler.unlink()
            with database.session() as session:
                session.execute(write)
        finally:
            database.close()
            server.destroy()
