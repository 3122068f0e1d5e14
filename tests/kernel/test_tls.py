"""PostgreSQL and Valkey by URLs with passwords and TLS parameters."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from pydantic import SecretStr

from raymill.kernel import cache
from raymill.kernel.db import Database
from raymill.kernel.errors import ExternalServiceError
from raymill.kernel.settings import DatabaseSettings, RedisSettings
from tls_door import Certificates, Door, make_certificates, tls_door

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("stranger")).authority


@pytest.fixture
def postgres_door(database_url: str, certificates: Certificates) -> Iterator[Door]:
    with tls_door(urlsplit(database_url).port or 0, certificates, is_postgres=True) as door:
        yield door


@pytest.fixture
def valkey_door(redis_url: str, certificates: Certificates) -> Iterator[Door]:
    with tls_door(urlsplit(redis_url).port or 0, certificates, is_postgres=False) as door:
        yield door


def through(url: str, door: Door, scheme: str, query: str) -> SecretStr:
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return SecretStr(f"{scheme}://{login}@127.0.0.1:{door.port}{parts.path}?{query}")


def test_postgres_by_tls_and_a_known_authority(
    database_url: str, postgres_door: Door, certificates: Certificates
) -> None:
    query = f"sslmode=verify-full&sslrootcert={certificates.authority}"
    database = Database(DatabaseSettings(url=through(database_url, postgres_door, "postgresql", query)))
    database.ping()
    database.close()
    assert postgres_door.clients > 0


@pytest.mark.parametrize("query", ["sslmode=verify-full&sslrootcert={stranger}", "sslmode=disable"])
def test_postgres_is_refused_without_trust_or_without_tls(
    database_url: str, postgres_door: Door, stranger: Path, query: str
) -> None:
    url = through(database_url, postgres_door, "postgresql", query.format(stranger=stranger))
    database = Database(DatabaseSettings(url=url))
    with pytest.raises(ExternalServiceError):
        database.ping()
    database.close()


def test_valkey_by_tls_and_a_known_authority(redis_url: str, valkey_door: Door, certificates: Certificates) -> None:
    url = through(redis_url, valkey_door, "rediss", f"ssl_ca_certs={certificates.authority}")
    settings = RedisSettings(url=url)
    with cache.connect(settings) as client:
        assert client.ping()

    async def ping() -> object:
        async with cache.connect_async(settings) as client:
            return await client.ping()

    assert asyncio.run(ping())


def test_valkey_is_refused_without_trust(redis_url: str, valkey_door: Door, stranger: Path) -> None:
    url = through(redis_url, valkey_door, "rediss", f"ssl_ca_certs={stranger}")
    with cache.connect(RedisSettings(url=url)) as client, pytest.raises(redis.ConnectionError):
        client.ping()
