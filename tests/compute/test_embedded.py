"""The embedded servers, each for real."""

import psycopg
import pytest
import redis

pytestmark = pytest.mark.integration


def test_both_databases_answer(database_url, redis_url):
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE EXTENSION vector")
        assert connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'::vector").fetchone() == (1.0,)
    assert redis.Redis.from_url(redis_url).ping()
