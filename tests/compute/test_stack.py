"""The whole stack for real: one life of a platform on one machine, beside another Ray cluster."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import SecretStr

from raymill.compute.cluster import Cluster, ClusterUnreachable, dashboard_url
from raymill.compute.embedded import processes
from raymill.compute.embedded.errors import PortTaken, StartFailed, Unreachable
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.compute.embedded.stack import Stack
from raymill.compute.serve_config import AppFailed, deploy, read_serve_config
from raymill.kernel.settings import (
    DatabaseSettings,
    HttpSettings,
    RaySettings,
    RedisSettings,
    Settings,
    StorageSettings,
)
from servers import free_ports, inherited, platform_environment, remove_platform

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent


class Quiet:
    """A report that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, part: str) -> None:
        self.lines.append(f"begin {part}")

    def note(self, part: str, text: str) -> None:
        pass

    def done(self, part: str, text: str) -> None:
        self.lines.append(f"done {part}")

    def failed(self, part: str) -> None:
        self.lines.append(f"failed {part}")


@dataclass(frozen=True)
class Platform:
    """A stack that the tests of this file share, and its environment for commands."""

    stack: Stack
    environment: dict[str, str]
    apps: Path
    cluster_environment: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of Ray's own commands as `raymill env` tells it to."""
        command = [str(BIN / words[0]), *words[1:]]
        return subprocess.run(command, env=self.cluster_environment, capture_output=True, text=True, timeout=90)


def write_apps(path: Path, builder: str = "build") -> Path:
    app = {
        "name": "api",
        "route_prefix": "/api",
        "import_path": f"small_apps:{builder}",
        "runtime_env": {"env_vars": {"PYTHONPATH": str(HERE)}},
        "args": {},
    }
    path.write_text(json.dumps({"applications": [app]}))  # JSON is YAML
    return path


def settings_of(environment: dict[str, str]) -> Settings:
    values = {name: value for name, value in environment.items() if name.startswith("RAYMILL_")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        return Settings()


def foreign_cluster(folder: Path) -> subprocess.Popen[bytes]:
    gcs, dashboard, agent, client = free_ports(4)
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    ports += [f"--ray-client-server-port={client}", "--object-store-memory=100000000", f"--temp-dir={folder}"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", "--include-dashboard=false", *ports],
            env=inherited(),
            start_new_session=True,
            stdout=log,
            stderr=log,
        )


def session_of(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and processes.is_alive(process):
                found.append(process)
        except ProcessLookupError:
            continue
    return found


@pytest.fixture(scope="module")
def _untraced() -> Iterator[None]:
    """Let the stack, which gives its own environment to Ray, have none that slows Ray's processes down."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - inherited().keys():
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def platform(_untraced: None) -> Iterator[Platform]:
    home = Path("/tmp") / f"rm-stack-{os.getpid()}"  # noqa: S108
    environment = platform_environment(home) | {"RAYMILL_RAY__GCS_FAULT_TOLERANCE": "true"}
    home.mkdir(mode=0o700)
    stack = Stack(settings_of(environment), report=Quiet(), apps_path=write_apps(home / "apps.yaml"))
    stack.up(lambda settings: None)
    answer = subprocess.run([BIN / "raymill", "env"], env=environment, capture_output=True, text=True, check=True)
    exported = dict(line.removeprefix("export ").split("=", 1) for line in answer.stdout.splitlines())
    yield Platform(stack, environment, home / "apps.yaml", environment | exported)
    stack.down()
    remove_platform(home)


@pytest.mark.ray
def test_every_part_runs_and_is_told(platform: Platform) -> None:
    assert {part.part: part.state for part in platform.stack.status()} == {
        "postgres": "running",
        "valkey": "running",
        "ray": "running",
    }
    assert all(part.pid and part.memory_bytes for part in platform.stack.status())
    assert httpx.get(f"{platform.stack.settings.http.base_url}/api/readyz").text == "ready"


@pytest.mark.ray
def test_a_second_up_uses_what_runs(platform: Platform) -> None:
    before = [part.pid for part in platform.stack.status()]
    # what a later command knows comes from config.json
    again = Stack(Settings(home=platform.stack.settings.home), report=Quiet(), apps_path=platform.apps)
    again.up(lambda settings: None)
    assert [part.pid for part in again.status()] == before
    assert again.settings.http == platform.stack.settings.http


@pytest.mark.ray
def test_config_json_is_private_and_complete(platform: Platform) -> None:
    path = platform.stack.settings.home / "config.json"
    assert path.stat().st_mode & 0o077 == 0
    read = Settings(home=platform.stack.settings.home)
    assert read.database.url.get_secret_value() == platform.stack.postgres.url
    assert read.database.admin_url is None
    assert read.redis.url.get_secret_value() == platform.stack.valkey.url
    assert read.ray.dashboard_port == platform.stack.settings.ray.dashboard_port


@pytest.mark.ray
def test_the_cluster_is_closed_without_its_token(platform: Platform) -> None:
    answer = httpx.get(f"{dashboard_url(platform.stack.settings)}/api/jobs/")
    assert answer.status_code == 401
    token = platform.stack.ray.folder / "token"
    assert token.stat().st_mode & 0o077 == 0


@pytest.mark.ray
def test_cluster_facts(platform: Platform) -> None:
    with Cluster.connect(platform.stack.settings) as cluster:
        assert len(bytes.fromhex(cluster.cluster_id())) == 28
        assert [node.is_head for node in cluster.nodes()] == [True]
        [app] = cluster.serve_apps()
        assert (app.name, app.status, app.route_prefix, len(app.replicas)) == ("api", "RUNNING", "/api", 1)


@pytest.mark.ray
def test_ray_tools_work_unmodified(platform: Platform) -> None:
    code = "import os; print(sorted(name for name in os.environ if 'RAYMILL_' in name))"
    submitted = platform.run("ray", "job", "submit", "--", sys.executable, "-c", code)
    assert "succeeded" in submitted.stdout + submitted.stderr
    assert "['RAYMILL_CONFIG_FILE', 'RAYMILL_HOME', '_RAYMILL_HEAD']" in submitted.stdout


@pytest.mark.ray
def test_a_failing_application_is_told_in_its_own_words(platform: Platform, tmp_path: Path) -> None:
    config = read_serve_config(write_apps(tmp_path / "apps.yaml", "build_broken"), platform.stack.settings)
    config["applications"][0] |= {"name": "broken", "route_prefix": "/broken"}
    good = read_serve_config(platform.apps, platform.stack.settings)
    config["applications"] += good["applications"]
    with Cluster.connect(platform.stack.settings) as cluster:
        with pytest.raises(AppFailed, match=r"'broken' failed to start: .*no such thing as a broken app"):
            deploy(cluster, config, timeout_s=60)
        [app] = deploy(cluster, good, timeout_s=60)
        assert app.name == "api"


@pytest.mark.ray
def test_an_existing_cluster_is_joined_and_left(platform: Platform, tmp_path: Path) -> None:
    owner = platform.stack.settings
    joined = RaySettings(address=dashboard_url(owner), token_file=owner.home / "ray" / "token")
    settings = owner.model_copy(update={"home": tmp_path, "config_file": None, "ray": joined})
    guest = Stack(settings, report=Quiet(), apps_path=platform.apps)
    guest.up(lambda settings: None)
    assert {part.state for part in guest.status()} == {"external"}
    assert not (tmp_path / "postgres").exists()
    guest.down()
    assert {part.state for part in guest.status()} == {"external"}
    refused = joined.model_copy(update={"token_file": tmp_path / "none"})
    with pytest.raises(ClusterUnreachable, match="refuses our token"):
        Stack(settings.model_copy(update={"ray": refused}), report=Quiet()).up(lambda settings: None)


@pytest.mark.ray
@pytest.mark.parametrize("part", ["head", "gcs_server"])
def test_up_after_a_part_of_the_head_was_killed_revives_the_same_cluster(platform: Platform, part: str) -> None:
    stack = platform.stack
    head, leftovers, before = stack.ray.find_process(), stack.ray.find_processes(), facts(stack)
    assert head
    [victim] = [head] if part == "head" else [one for one in leftovers if one.name() == part]
    victim.kill()
    # Without its GCS Ray ends the rest of the head by itself.
    assert not processes.wait_ended([head], timeout_s=15)
    begun = time.monotonic()
    stack.up(lambda settings: None)
    assert httpx.get(f"{stack.settings.http.base_url}/api/readyz").text == "ready"
    assert time.monotonic() - begun < 60
    assert stack.ray.find_process().pid != head.pid
    assert not [one for one in leftovers if processes.is_alive(one)]
    assert facts(stack) == before


def facts(stack: Stack) -> tuple[str, set[str]]:
    with Cluster.connect(stack.settings) as cluster:
        return cluster.cluster_id(), {job.submission_id for job in cluster.jobs() if job.submission_id}


@pytest.mark.ray
def test_down_ends_all_of_it_and_nothing_else(platform: Platform) -> None:
    folder = Path("/tmp") / f"rm-f-{os.getpid()}"  # noqa: S108
    folder.mkdir()
    foreign = foreign_cluster(folder)
    stack, home = platform.stack, platform.stack.settings.home
    platform.run("ray", "job", "submit", "--no-wait", "--submission-id", "endless", "--", "sleep", "1234")
    processes.wait_until(lambda: bool(_sleepers(stack)), timeout_s=30, failure=lambda: "the job did not start")
    strangers = session_of(foreign.pid)
    # The job's program among them.
    mine = [*stack.ray.find_processes(), stack.postgres.find_process(), stack.valkey.find_process()]
    try:
        stack.down()
        assert not [one for one in mine if processes.is_alive(one)]
        assert len(strangers) >= 2
        assert all(processes.is_alive(one) for one in strangers)
        assert {part.state for part in stack.status()} == {"stopped"}
        assert (home / "config.json").exists()
        stack.down()
    finally:
        processes.end_processes(session_of(foreign.pid), grace_s=0)
        foreign.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.integration
def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    [port] = free_ports(1)
    stack = Stack(Settings(home=tmp_path, http=HttpSettings(port=port)), report=Quiet())
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(PortTaken) as caught:
            stack.up(lambda settings: None)
    assert str(caught.value).startswith(f"Port {port} is taken by pid {os.getpid()} (")
    assert "RAYMILL_HTTP__PORT" in str(caught.value)
    assert stack.report.lines == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            {"database": DatabaseSettings(url=SecretStr("postgresql://u:secret@127.0.0.1:1/d"))},
            "127.0.0.1:1/d (RAYMILL_D",
        ),
        ({"redis": RedisSettings(url=SecretStr("redis://:secret@127.0.0.1:1/0"))}, ":1/0 (RAYMILL_R"),
        ({"ray": RaySettings(address="127.0.0.1:1", dashboard_port=1)}, "dashboard at http://127.0.0.1:1 does"),
    ],
)
def test_an_unreachable_server_is_one_sentence(section: dict[str, object], sentence: str, tmp_path: Path) -> None:
    stack = Stack(Settings(home=tmp_path, **section), report=Quiet())
    with pytest.raises(Exception, match="does not answer") as caught:
        stack.up(lambda settings: None)
    assert sentence in caught.value.message
    assert "secret" not in caught.value.message
    assert stack.report.lines == []


@pytest.mark.integration
def test_a_server_that_refuses_us_says_why(database_url: str, redis_url: str, tmp_path: Path) -> None:
    def wrong(url: str) -> SecretStr:
        return SecretStr(re.sub(r"(//[^:]*):[^@]+@", r"\1:secret@", url))

    refusals = {
        "password authentication failed": {"database": DatabaseSettings(url=wrong(database_url))},
        "invalid username-password pair": {"redis": RedisSettings(url=wrong(redis_url))},
        "No such file": {"redis": RedisSettings(url=SecretStr(f"rediss{redis_url[5:]}?ssl_ca_certs=/nowhere"))},
        "Not a directory": {"storage": StorageSettings(url=f"file://{__file__}/store")},
    }
    for words, section in refusals.items():
        stack = Stack(Settings(home=tmp_path, **section), report=Quiet())
        with pytest.raises(Unreachable, match=words) as caught:
            stack.up(lambda settings: None)
        assert "secret" not in caught.value.message


@pytest.mark.integration
def test_external_servers_are_used_and_not_stopped(database_url: str, redis_url: str, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        database=DatabaseSettings(url=SecretStr(database_url)),
        redis=RedisSettings(url=SecretStr(redis_url)),
    )
    stack = Stack(settings, report=Quiet())
    assert [part.state for part in stack.status()][:2] == ["external", "external"]
    stack.down()
    assert [part.state for part in stack.status()][:2] == ["external", "external"]


def test_two_ups_of_one_home_do_not_meet(tmp_path: Path) -> None:
    stack = Stack(Settings(home=tmp_path), report=Quiet())
    with stack._alone(), pytest.raises(StartFailed, match="Another 'raymill up'"):
        stack.up(lambda settings: None)


def _sleepers(stack: Stack) -> list[psutil.Process]:
    members = set(stack.ray.find_processes())
    found = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "1234"]]
    return [one for one in found if one in members]


def test_ray_sockets_fit_whatever_the_home(tmp_path: Path) -> None:
    short = EmbeddedRay(Settings(home=Path("/home/alice/.raymill")))
    long = EmbeddedRay(Settings(home=tmp_path / ("long" * 20)))
    assert short.temp_dir == Path("/home/alice/.raymill/r")
    assert long.temp_dir.name == "r"
    assert len(str(long.temp_dir)) < 36
    assert long.temp_dir != EmbeddedRay(Settings(home=tmp_path / ("long" * 21))).temp_dir
