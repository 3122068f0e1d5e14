"""A Valkey that hangs, goes and comes back: who asks it hears soon that it is away."""

import signal
import time
from collections.abc import Iterator

import pytest
import redis
from pydantic import SecretStr

from raymill.compute.embedded.valkey import EmbeddedValkey
from raymill.kernel.cache import ImpatientRedis, connect
from raymill.kernel.settings import RedisSettings
from timing import seconds_until

pytestmark = [pytest.mark.integration, pytest.mark.alone]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey of its own, because it is stopped."""
    valkey = EmbeddedValkey(tmp_path_factory.mktemp("valkey"), durable=False)
    valkey.start()
    yield valkey
    valkey.destroy()


def client_of(server: EmbeddedValkey) -> redis.Redis:
    client = connect(RedisSettings(url=SecretStr(server.url), timeout_s=0.5))
    client.ping()
    return client


def seconds_to_fail(client: redis.Redis) -> float:
    started = time.monotonic()
    with pytest.raises(redis.RedisError):
        client.get("any")
    return time.monotonic() - started


def until_it_answers(client: redis.Redis) -> float:
    def answers() -> bool:
        try:
            client.get("any")
        except redis.RedisError:
            return False
        return True

    return seconds_until(answers)


def test_only_the_first_question_waits_for_a_server_that_hangs(server: EmbeddedValkey) -> None:
    process = server.find_process()
    assert process
    with client_of(server) as client:
        process.send_signal(signal.SIGSTOP)
        try:
            first, second = seconds_to_fail(client), seconds_to_fail(client)
        finally:
            process.send_signal(signal.SIGCONT)
        assert first < 0.8
        assert second < 0.1
        assert until_it_answers(client) < ImpatientRedis.PAUSE_S + 0.5


def test_a_restarted_server_is_used_at_once(server: EmbeddedValkey) -> None:
    with client_of(server) as client:
        server.stop()
        server.start()
        assert client.get("any") is None
