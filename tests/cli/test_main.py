"""The command line as an operator meets it."""

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from raymill.cli.main import COMMANDS
from servers import platform_environment

RAYMILL = Path(sys.executable).with_name("raymill")


def run(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = platform_environment(home) | environment
    return subprocess.run([RAYMILL, *words], env=env, capture_output=True, text=True, timeout=60)


def test_the_entry_point_loads_no_server_library() -> None:
    code = "import sys, raymill.cli.main; print(sorted({'ray', 'fastapi', 'sqlalchemy', 'httpx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_help_lists_every_command() -> None:
    answer = subprocess.run([RAYMILL, "--help"], capture_output=True, text=True, check=True)
    assert all(name in answer.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_says_what_the_overview_says(name: str) -> None:
    entry = COMMANDS[name]
    target = getattr(importlib.import_module(f"raymill.cli.{entry.module}"), entry.attribute)
    described = target.__doc__ or "" if callable(target) and not hasattr(target, "info") else target.info.help
    assert described.splitlines()[0].startswith(entry.summary.rstrip("."))


def test_an_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    answer = run(tmp_path, "upp")
    assert answer.returncode == 2
    assert "Did you mean 'up'" in answer.stderr


def test_status_of_nothing(tmp_path: Path) -> None:
    answer = run(tmp_path, "status", "--json")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert {part["part"]: part["state"] for part in document["parts"]} == {
        "postgres": "stopped",
        "valkey": "stopped",
        "ray": "stopped",
    }
    assert document["apps"] == []
    assert "stopped" in run(tmp_path, "status").stdout


def test_down_of_nothing_succeeds(tmp_path: Path) -> None:
    assert run(tmp_path / "none", "down").returncode == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        (["env"], {}, "raymill: The Ray dashboard at http://127.0.0.1:"),
        (["logs"], {}, "raymill: No logs yet: run 'raymill up' first."),
        (["logs", "api"], {}, "raymill: No log of 'api' on this machine."),
        (["up"], {"RAYMILL_DATABASE__URL": "postgresql://u:p@127.0.0.1:1/d"}, "raymill: PostgreSQL at 127.0.0.1:1/d"),
        (["up"], {"RAY_ADDRESS": "http://127.0.0.1:1"}, "raymill: The Ray dashboard at http://127.0.0.1:1 does not"),
        (["up"], {"RAYMILL_HTTP__PORT": "many"}, "raymill: The settings are not valid:"),
        (["up"], {"RAYMILL_HOME": "/proc/nowhere"}, "raymill: No such file or directory: /proc/nowhere"),
    ],
)
def test_a_foreseen_failure_is_one_sentence(
    words: list[str], environment: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    answer = run(tmp_path, *words, **environment)
    assert answer.returncode == 1
    assert answer.stderr.startswith(sentence)
    assert answer.stderr.count("\n") == 1


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = run(tmp_path, "up", RAYMILL_HTTP__PORT=str(port))
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"raymill: Port {port} is taken by pid {os.getpid()} (")
    assert answer.stderr.count("\n") == 1


def test_logs_prints_the_end_and_follows(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "valkey.log"
    log.parent.mkdir()
    log.write_text("one\ntwo\nthree\n")
    assert run(tmp_path, "logs", "valkey", "--lines", "2").stdout == "two\nthree\n"
    environment = platform_environment(tmp_path)
    follower = subprocess.Popen(
        [RAYMILL, "logs", "valkey", "-n", "1", "-f"],
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
    )
    assert follower.stdout is not None
    try:
        assert follower.stdout.readline() == b"three\n"
        with log.open("a") as file:
            file.write("four\n")
        assert follower.stdout.readline() == b"four\n"
    finally:
        follower.terminate()
        follower.wait(10)
        follower.stdout.close()
