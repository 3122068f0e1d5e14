"""Runs that a program records about itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from raymill.sdk import AuthenticationFailed, Client, PermissionDenied, Retries, train
from raymill.sdk.runs import Run

pytestmark = pytest.mark.integration


@pytest.fixture
def key(member: Client) -> str:
    """Return the secret of a key that may write runs and nothing else."""
    project = member.projects.create("research")
    return member.api_keys.create(project_id=project.id, name="runs", permissions=["run:write"]).key


@pytest.fixture
def environment(platform_url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe the platform as in a job."""
    monkeypatch.setenv("RAYMILL_API_URL", platform_url)
    monkeypatch.setenv("RAYMILL_API_KEY", key)


@pytest.fixture
def only_run(member: Client) -> Callable[[], Run]:
    """Return a look at the only run there is."""

    def look() -> Run:
        [run] = member.runs.list()
        return run

    return look


@pytest.mark.usefixtures("environment")
def test_a_run_shows_what_the_program_did(only_run: Callable[[], Run]) -> None:
    with train.run("baseline", experiment="digits", params={"lr": 0.1, "layers": (64, 32)}) as run:
        assert (only_run().status, only_run().id) == ("running", run.id)
        run.log({"loss": 0.5, "accuracy": 0.25})
        run.log({"loss": 0.25})
        run.log({"loss": 0.125}, step=7)
    seen = only_run()
    assert (seen.name, seen.status, seen.parameters) == ("baseline", "completed", {"lr": 0.1, "layers": [64, 32]})
    assert seen.metrics == {"loss": 0.125, "accuracy": 0.25}
    assert seen.completed_at is not None


@pytest.mark.usefixtures("environment")
def test_steps_count_on(only_run: Callable[[], Run], member: Client) -> None:
    with train.run() as run:
        for loss in (3.0, 2.0):
            run.log({"loss": loss})
        run.log({"loss": 1.0}, step=10)
        run.log({"loss": 0.0})
    path = f"{member.base_url}/api/v1/runs/{run.id}/metrics"
    token = member._transport._credential.headers()
    points = httpx.get(path, headers=token).json()["items"]
    assert [(point["step"], point["value"]) for point in points] == [(0, 3.0), (1, 2.0), (10, 1.0), (11, 0.0)]


@pytest.mark.usefixtures("environment")
def test_the_end_of_the_block_is_the_end_of_the_run(member: Client) -> None:
    ends: list[tuple[BaseException, str]] = [
        (ValueError("no"), "failed"),
        (SystemExit(1), "failed"),
        (SystemExit(0), "completed"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(143), "cancelled"),
        (SystemExit(15), "cancelled"),
    ]
    for error, status in ends:
        with pytest.raises(type(error)), train.run("bad") as run:
            raise error
        assert member.runs.get(run.id).status == status, repr(error)


@pytest.mark.usefixtures("environment")
def test_values_that_are_not_finite_are_left_out_aloud(only_run: Callable[[], Run]) -> None:
    with train.run() as run, pytest.warns(UserWarning, match="not finite: loss"):
        run.log({"loss": float("nan"), "accuracy": 0.5})
    assert only_run().metrics == {"accuracy": 0.5}


def test_a_platform_that_is_away_for_a_while_does_not_end_the_program(
    platform_url: str, key: str, only_run: Callable[[], Run]
) -> None:
    wire = Wire()
    retries = Retries(attempts=2, sleep=lambda _: None)
    with Client(platform_url, api_key=key, transport=wire, retries=retries) as client:
        with train.run("robust", client=client) as run:
            wire.is_cut = True
            with pytest.warns(UserWarning, match="Step 0 was not logged"):
                run.log({"loss": 1.0})
            wire.is_cut = False
            run.log({"loss": 0.5})
        assert (only_run().status, only_run().metrics) == ("completed", {"loss": 0.5})


def test_without_the_environment_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYMILL_API_URL", raising=False)
    monkeypatch.delenv("RAYMILL_API_KEY", raising=False)
    with pytest.raises(AuthenticationFailed, match="RAYMILL_API_URL"), train.run():
        pass
    monkeypatch.setenv("RAYMILL_API_URL", "http://127.0.0.1:1")
    with pytest.raises(AuthenticationFailed, match="RAYMILL_API_KEY"), train.run():
        pass


def test_a_key_without_the_right_is_refused(platform_url: str, member: Client) -> None:
    project = member.projects.create("research")
    key = member.api_keys.create(project_id=project.id, name="reader", permissions=["run:read"])
    with (
        Client(platform_url, api_key=key.key) as client,
        pytest.raises(PermissionDenied, match="run:write"),
        train.run(client=client),
    ):
        pass


@pytest.mark.usefixtures("environment")
def test_a_program_that_ray_stops_leaves_a_cancelled_run(only_run: Callable[[], Run]) -> None:
    code = (
        "import time\n"
        "from raymill.sdk import train\n"
        "with train.run('long'):\n"
        "    print('started', flush=True)\n"
        "    time.sleep(60)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert program.stdout is not None
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGTERM)
    assert program.wait(20) == 128 + signal.SIGTERM
    assert only_run().status == "cancelled"


def test_an_account_with_several_projects_names_one(member: Client) -> None:
    member.projects.create("first")
    second = member.projects.create("second")
    with pytest.raises(Exception, match="several projects"), train.run(client=member):
        pass
    with train.run(client=member, project_id=second.id) as run:
        assert run.project_id == second.id


class Wire(httpx.BaseTransport):
    """A network that tests can cut."""

    def __init__(self) -> None:
        self._network = httpx.HTTPTransport()
        self.is_cut = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_cut:
            raise httpx.ReadError("cut")
        return self._network.handle_request(request)

    def close(self) -> None:
        self._network.close()
