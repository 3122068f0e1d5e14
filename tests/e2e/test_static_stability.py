"""Load goes on, 200 predictions a second, whatever dies; and a release under it costs nobody an answer.

Each test does its deed once. With `--soak SECONDS`, which `make bench SOAK=1` gives, it repeats it for so long.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from statistics import median

import pytest

from open_load import Load, Prediction
from patient import Patient, kill, send
from raymill.sdk import Client
from raymill.sdk.deployments import Deployment
from raymill.sdk.errors import RaymillError
from raymill.sdk.transport import Retries
from timing import seconds_until, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PER_SECOND = 200.0
# The platform's processes yield to everything else on a machine: a busy one needs patience.
PATIENCE_S = 90.0
REPLICAS = 2
HAPROXY_WITHIN_S = 6.0
# HAProxy learns from its sockets that a replica is dead; its health checks alone would need seconds.
NOTICED_WITHIN_S = 3.0
# Of those that were sent meanwhile few reach the dead replica; ten minutes of deaths cost four each.
LOST_PER_DEATH = 20
SWITCHES, CALLERS = 3, 4
Tell = Callable[..., None]
Rounds = Callable[[], Iterator[int]]
# When something began to die, and when it was over.
Deaths = list[tuple[float, float]]


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Rounds:
    """Count from 0: once, or until the seconds of the soak are over."""
    soak_s = float(request.config.getoption("soak", 0.0))

    def count() -> Iterator[int]:
        number, end = 0, time.monotonic() + soak_s
        while number == 0 or time.monotonic() < end:
            yield number
            number += 1

    return count


@pytest.fixture(scope="module")
def released(patient: Patient) -> Deployment:
    """A deployment with two warm revisions, of which the first has all traffic."""
    deployments = patient.tenant.client.deployments
    made = deployments.deploy(project_id=patient.tenant.project_id, name="released", model="digits")
    deployments.wait_until_ready(made.id)
    deployments.update(made.id, version=patient.tenant.version.version, promote=False)
    ready = deployments.wait_until_ready(made.id)
    assert len(ready.revisions) == 2
    return ready


@dataclass
class Calls:
    """What became of predictions by the SDK."""

    total: int = 0
    repeated: int = 0
    failed: list[RaymillError] = field(default_factory=list)


@contextmanager
def sdk_calls(patient: Patient) -> Iterator[Calls]:
    """Predict by the SDK all the while, one call after another in each of some threads."""
    calls, stopping = Calls(), threading.Event()

    def repeat(seconds: float) -> None:
        calls.repeated += 1
        time.sleep(seconds)

    def call() -> None:
        with Client(
            patient.platform.url, api_key=patient.headers["X-API-Key"], retries=Retries(sleep=repeat)
        ) as client:
            while not stopping.wait(0.02):
                calls.total += 1
                try:
                    client.endpoints.predict(patient.tenant.deployment.endpoint, patient.body["instances"])
                except RaymillError as error:
                    calls.failed.append(error)

    with ThreadPoolExecutor(CALLERS) as callers:
        running = [callers.submit(call) for _ in range(CALLERS)]
        try:
            yield calls
        finally:
            stopping.set()
    for each in running:
        each.result()


def lost(load: Load, deaths: Deaths) -> list[Prediction]:
    """The failures of requests that were not on their way while something died."""
    failures = load.failures()
    return [one for one in failures if not any(one.sent <= over and one.answered >= died for died, over in deaths)]


def most_lost(load: Load, deaths: Deaths) -> int:
    """How many may fail at the deaths: those on their way then, and a few that HAProxy sends to who is dead already."""
    on_their_way = sum(one.sent <= died <= one.answered for one in load.predictions for died, _ in deaths)
    return on_their_way + LOST_PER_DEATH * len(deaths)


def running(patient: Patient, app: str, count: int = 1) -> list[int]:
    """The processes of an app's replicas, once there are so many."""

    def found() -> set[int]:
        pids = patient.pids(app)
        return pids if len(pids) == count else set()

    return sorted(until(found, within_s=PATIENCE_S, what=f"{count} of {app}", every_s=0.1))


def replace_replica(patient: Patient, pid: int) -> tuple[tuple[float, float], float]:
    """Kill a replica and wait for its successor; return when it died, and how long that took."""
    died = time.monotonic()
    noticed = kill(pid) + NOTICED_WITHIN_S

    def replaced() -> bool:
        pids = patient.pids("inference")
        return len(pids) == REPLICAS and pid not in pids

    return (died, noticed), seconds_until(replaced, within_s=PATIENCE_S, what="two replicas again", every_s=0.1)


def go_on(load: Load, predictions: int = 100) -> None:
    """Wait for good answers to requests that are sent from now on."""
    now = time.monotonic()
    until(lambda: load.good_since(now) > predictions, within_s=PATIENCE_S, what="predictions", every_s=0.05)


def kill_app(patient: Patient, app: str) -> None:
    for pid in running(patient, app):
        kill(pid)


@contextmanager
def all_else_dead(patient: Patient, released: Deployment) -> Iterator[None]:
    """Databases, api and controller are dead; the last promotion reached PostgreSQL and nobody else."""
    promotion = {"method": "POST", "json": {"revision": 2}}
    try:
        send(patient.valkey.find_process(), SIGKILL)
        kill_app(patient, "controller")
        status, _, answer = patient.ask(f"/v1/deployments/{released.id}/promote", **promotion)
        assert (status, answer.json()["status"]) == (200, "deploying"), answer.text
        send(patient.postgres.find_process(), SIGKILL)
        kill_app(patient, "api")
        yield
        assert not patient.is_up()
    finally:
        patient.valkey.start()
        patient.postgres.start()


@contextmanager
def away(folder: Path) -> Iterator[None]:
    hidden = folder.rename(folder.with_name(f"{folder.name}-away"))
    try:
        yield
    finally:
        hidden.rename(folder)


def test_predictions_go_on_when_all_else_is_dead(
    patient: Patient, released: Deployment, tell: Tell, rounds: Rounds
) -> None:
    """Replicas that start meanwhile take the last table from object store and disk, or from the disk alone."""
    deployments, copies = patient.tenant.client.deployments, patient.platform.home / "objects" / ".serving"
    deployments.promote(released.id, 1)
    deaths: Deaths = []
    with patient.load(PER_SECOND, endpoint=released.endpoint) as load:
        with all_else_dead(patient, released):
            for _ in rounds():
                first, second = running(patient, "inference", REPLICAS)
                deaths.append(replace_replica(patient, first)[0])
                with away(copies):
                    deaths.append(replace_replica(patient, second)[0])
                go_on(load)
            dead = list(load.predictions)
        back = seconds_until(patient.is_up, within_s=PATIENCE_S, what="readyz", every_s=0.1)
        caught_up = deployments.wait_until_ready(released.id, timeout_s=PATIENCE_S)
        since = time.monotonic()
        go_on(load)
    late = [each for each in load.predictions if each.sent > since]
    tell(
        f"databases, api and controller dead: {len(load.failures())} of {len(load.predictions)} predictions failed, "
        f"on their way when {len(deaths)} replicas died; ready {back:.2f} s after the databases' start",
        load,
    )
    assert lost(load, deaths) == []
    assert len(load.failures()) <= most_lost(load, deaths)
    assert {each.revision for each in dead if each.is_good} == {"1"}
    assert (caught_up.traffic, {each.revision for each in late}) == ({"2": 100}, {"2"})


def test_a_replica_is_killed(patient: Patient, tell: Tell, rounds: Rounds) -> None:
    """Only what it was answering fails, and the SDK asks again."""
    deaths: Deaths = []
    took: list[float] = []
    with patient.load(PER_SECOND) as load, sdk_calls(patient) as calls:
        for number in rounds():
            pids = running(patient, "inference", REPLICAS)
            death, seconds = replace_replica(patient, pids[number % REPLICAS])
            deaths.append(death)
            took.append(seconds)
            go_on(load)
    tell(
        f"replica killed: {len(load.failures())} of {len(load.predictions)} predictions failed, on their "
        f"way; of {calls.total} calls of the SDK none, {calls.repeated} repeated; two again after {median(took):.1f} s",
        load,
    )
    assert lost(load, deaths) == []
    assert len(load.failures()) <= most_lost(load, deaths)
    assert (calls.failed, calls.total > 20) == ([], True)


def test_haproxy_is_killed(patient: Patient, tell: Tell, rounds: Rounds) -> None:
    """All fails until it is back, soon; and nothing from then on."""
    outages: Deaths = []
    with patient.load(PER_SECOND) as load:
        for _ in rounds():
            doomed, killed = patient.haproxies(), time.monotonic()
            assert doomed
            for process in doomed:
                process.kill()
            go_on(load)
            outages.append((killed, time.monotonic()))
            assert not {one.pid for one in doomed} & {one.pid for one in patient.haproxies()}
            go_on(load)
    seconds = [last_failure(load, outage) - outage[0] for outage in outages]
    tell(
        f"HAProxy killed: {len(load.failures())} of {len(load.predictions)} predictions failed, within "
        f"{median(seconds):.2f} s, at most {max(seconds):.2f} s",
        load,
    )
    assert lost(load, outages) == []
    assert max(seconds) < HAPROXY_WITHIN_S
    # Nobody is told that it was their mistake.
    assert not [one for one in load.failures() if one.outcome.startswith("4")]


def last_failure(load: Load, outage: tuple[float, float]) -> float:
    """When the last of those was answered that failed of an outage; its beginning if none did."""
    begun, over = outage
    return max((one.answered for one in load.failures() if one.sent <= over and one.answered >= begun), default=begun)


def test_the_serve_controller_is_killed(patient: Patient, tell: Tell, rounds: Rounds) -> None:
    took: list[float] = []
    with patient.load(PER_SECOND) as load:
        for _ in rounds():
            kill(patient.process("ray::ServeController").pid)
            back = lambda: len(patient.replicas("inference")) == REPLICAS  # noqa: E731
            took.append(seconds_until(back, within_s=PATIENCE_S, what="Serve knows its applications", every_s=0.1))
            go_on(load)
    tell(
        f"Serve controller killed: {len(load.failures())} of {len(load.predictions)} predictions failed; back after "
        f"{median(took):.1f} s",
        load,
    )
    assert load.failures() == []


def test_promote_and_rollback_lose_no_answer(
    patient: Patient, released: Deployment, tell: Tell, rounds: Rounds
) -> None:
    """What is sent after their answer comes from the other revision, and nothing restarts."""
    deployments, before = patient.tenant.client.deployments, running(patient, "inference", REPLICAS)
    deployments.promote(released.id, 1)
    late: list[float] = []
    with patient.load(PER_SECOND, endpoint=released.endpoint) as load:
        for _ in rounds():
            for _ in range(SWITCHES):
                late.append(switch(load, patient, lambda: deployments.promote(released.id, 2), old="1"))
                late.append(switch(load, patient, lambda: deployments.rollback(released.id), old="2"))
    tell(
        f"promote and rollback: the last old answer {1000 * median(late[0::2]):.0f} ms and "
        f"{1000 * median(late[1::2]):.0f} ms after theirs (medians of {len(late) // 2}); {len(load.failures())} of "
        f"{len(load.predictions)} predictions failed",
        load,
    )
    assert load.failures() == []
    assert running(patient, "inference", REPLICAS) == before


def switch(load: Load, patient: Patient, change: Callable[[], Deployment], *, old: str) -> float:
    """Return for how many seconds after the answer to the change answers came from the old revision."""
    changed, answered = change(), time.monotonic()
    if changed.status != "ready":
        patient.tenant.client.deployments.wait_until_ready(changed.id, timeout_s=PATIENCE_S)
        answered = time.monotonic()
    go_on(load, predictions=40)
    olds = [each for each in load.predictions[-2000:] if each.revision == old]
    assert [each for each in olds if each.sent > answered] == []
    return max(0.0, max((each.answered for each in olds), default=answered) - answered)
