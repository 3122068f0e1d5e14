"""One PostgreSQL and one Valkey for a test run, made of the same parts that `raymill up` uses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.compute.embedded.valkey import EmbeddedValkey


def start_databases(folder: Path) -> tuple[str, str, Callable[[], None]]:
    """Start both servers below `folder` without fsync.

    Returns:
        The database URL, the Redis URL, and a function that stops both and deletes their data.
    """
    postgres = EmbeddedPostgres(folder / "postgres", durable=False)
    valkey = EmbeddedValkey(folder / "valkey", durable=False)

    def stop() -> None:
        valkey.destroy()
        postgres.destroy()

    try:
        with ThreadPoolExecutor() as pool:
            database_url, redis_url = pool.map(lambda server: server.start(), (postgres, valkey))
    except BaseException:
        stop()
        raise
    return database_url, redis_url, stop
