"""Python programs as jobs: by Ray's own client through the jobs door, and by an operator's `ray job submit`."""

import asyncio
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from guides import blocks
from raymill.sdk import Client
from timing import until
from whole_platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PROGRAM = """
import os, sys, time
from helper import WORD
from extra_module import NUMBER
from raymill.sdk import train

with train.run("inside", experiment="door", params={"word": WORD}) as run:
    for step in range(3):
        print(f"step {step}", flush=True)
        run.log({"loss": 1.0 / (step + 1)})
        time.sleep(0.5)
hidden = [name for name, value in os.environ.items() if name.startswith("RAYMILL_") and value]
print(WORD, NUMBER, os.environ["LEVEL"], sorted(hidden), flush=True)
"""
GUIDE = "submit-python"


@pytest.fixture(scope="module")
def project(alice: Client) -> SimpleNamespace:
    """Return a project with a key of its own."""
    made = alice.projects.create(f"door-{secrets.token_hex(4)}")
    key = alice.api_keys.create(project_id=made.id, name="door")
    return SimpleNamespace(id=made.id, key=key.key, client=alice)


def open_door(platform: Platform, key: str) -> JobSubmissionClient:
    return JobSubmissionClient(f"{platform.url}/api/v1/jobs", headers={"Authorization": f"Bearer {key}"})


async def tail(client: JobSubmissionClient, name: str) -> list[str]:
    return [piece async for piece in client.tail_job_logs(name)]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a program and its helper, and beside it a module."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "work").mkdir()
    (folder / "work" / "main.py").write_text(PROGRAM)
    (folder / "work" / "helper.py").write_text("WORD = 'swordfish'")
    (folder / "extra_module").mkdir()
    (folder / "extra_module" / "__init__.py").write_text("NUMBER = 42")
    return folder


def test_a_folder_is_submitted_followed_and_recorded(platform: Platform, project: SimpleNamespace, code: Path) -> None:
    client = open_door(platform, project.key)
    name = client.submit_job(
        entrypoint="python main.py",
        runtime_env={
            "working_dir": str(code / "work"),
            "py_modules": [str(code / "extra_module")],
            "env_vars": {"LEVEL": "7"},
        },
        submission_id="nightly",
        entrypoint_num_cpus=0.2,
    )
    assert name == "nightly"
    pieces = asyncio.run(asyncio.wait_for(tail(client, name), 120))
    whole = "".join(pieces)
    assert client.get_job_status(name) == JobStatus.SUCCEEDED, whole
    assert client.get_job_logs(name) == whole
    assert len(pieces) > 1, "the output came in one piece, at the end"
    seen = "['RAYMILL_API_KEY', 'RAYMILL_API_URL', 'RAYMILL_REQUEST_ID']"
    assert whole.splitlines()[-1] == f"swordfish 42 7 {seen}"
    runs = {run.name: run for run in project.client.runs.list(project_id=project.id)}
    assert (runs["inside"].status, runs["inside"].parameters) == ("completed", {"word": "swordfish"})
    assert runs["inside"].metrics == {"loss": pytest.approx(1 / 3)}
    assert runs["nightly"].status == "completed"
    assert runs["inside"].source == runs["nightly"].source


def test_a_program_is_stopped_and_strangers_see_nothing(platform: Platform, project: SimpleNamespace) -> None:
    client = open_door(platform, project.key)
    name = client.submit_job(entrypoint="echo started; sleep 300")
    other = project.client.projects.create(f"other-{secrets.token_hex(4)}")
    stranger = open_door(platform, project.client.api_keys.create(project_id=other.id, name="other").key or "")
    assert stranger.list_jobs() == []
    with pytest.raises(RuntimeError, match="404"):
        stranger.stop_job(name)
    until(lambda: "started" in client.get_job_logs(name), within_s=60, what="the program runs")
    assert client.stop_job(name) is True
    until(lambda: client.get_job_status(name) == JobStatus.STOPPED, within_s=30, what="the program is stopped")
    assert {job.submission_id: job.status for job in client.list_jobs()}[name] == JobStatus.STOPPED
    assert client.delete_job(name) is True


def test_a_program_has_its_secret_and_ray_has_it_not(platform: Platform, project: SimpleNamespace) -> None:
    value = secrets.token_hex(16)
    project.client.secrets.put(project.id, "token", value)
    client = open_door(platform, project.key)
    backwards = "import os; print('read', os.environ['TOKEN'][::-1])"
    name = client.submit_job(
        entrypoint=f'python -c "{backwards}"', runtime_env={"env_vars": {"TOKEN": "secret://token"}}
    )
    until(lambda: client.get_job_status(name).is_terminal(), within_s=60, what="the program ends")
    assert client.get_job_logs(name).splitlines()[-1] == f"read {value[::-1]}"
    known = rays_jobs(platform)
    assert ("secret://token" in known, value in known) == (True, False)
    logs = [path for path in platform.home.rglob("*") if path.suffix in {".log", ".out", ".err"} and path.is_file()]
    assert logs
    assert [path for path in logs if value.encode() in path.read_bytes()] == []


def rays_jobs(platform: Platform) -> str:
    """Return all that Ray says of its jobs to an operator."""
    port = platform.environment["RAYMILL_RAY__DASHBOARD_PORT"]
    token = (platform.home / "ray" / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"http://127.0.0.1:{port}/api/jobs/", headers=headers).raise_for_status().text


def test_the_commands_of_the_guide_work(platform: Platform, project: SimpleNamespace, tmp_path: Path) -> None:
    [_, recording] = blocks(GUIDE, "python")
    (tmp_path / "my-program").mkdir()
    (tmp_path / "my-program" / "main.py").write_text(recording)
    shells = [shell(platform, filled(block, platform, project.key), tmp_path) for block in blocks(GUIDE)]
    assert len(shells) == 2
    for started in shells:
        written, _ = started.communicate(timeout=120)
        assert started.returncode == 0, written
        assert "SUCCEEDED" in written or "succeeded" in written, written
    runs = [run for run in project.client.runs.list(project_id=project.id) if run.name == "baseline"]
    assert {run.source["kind"] for run in runs} == {"training_job", "key"}
    for run in runs:
        assert (run.status, run.parameters, run.metrics["loss"]) == ("completed", {"lr": 0.01}, pytest.approx(0.1))


def filled(block: str, platform: Platform, key: str) -> str:
    """Return a block with this platform's address and a real key."""
    return block.replace("http://127.0.0.1:8000", platform.url).replace("rm_…", key)


def shell(platform: Platform, script: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a script where the platform's commands are on the path."""
    commands = str(Path(sys.executable).parent)
    path = {"PATH": f"{commands}:{platform.environment['PATH']}"}
    return subprocess.Popen(
        ["bash", "-ec", script],
        env=platform.environment | path,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
