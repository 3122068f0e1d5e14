"""The loops of the controller, on a real database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from pydantic import SecretStr

from raymill.controller.leases import LeaseKeeper
from raymill.controller.scheduler import ControllerStalled, Scheduler, Step
from raymill.controller.steps import GLOBAL, global_steps
from raymill.deployments import publisher
from raymill.kernel.db import Database
from raymill.kernel.resources import Resources
from raymill.kernel.settings import DatabaseSettings
from raymill.serving.published import channel
from timing import until

pytestmark = pytest.mark.integration


class Counter:
    """A step that counts its runs and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.runs = 0
        self._failures = failures

    def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            raise RuntimeError("on purpose")


Make = Callable[..., Scheduler]


@pytest.fixture
def make(resources: Resources) -> Iterator[Make]:
    """Make started schedulers that are stopped when the test ends."""
    made: list[Scheduler] = []

    def start(*steps: Step, holder: str = "one", database: Database | None = None) -> Scheduler:
        names = {step.lease for step in steps if step.lease}
        keeper = LeaseKeeper(database or resources.database, names=names, holder=holder, life_s=0.4)
        scheduler = Scheduler(steps, keeper)
        made.append(scheduler)
        scheduler.start()
        return scheduler

    yield start
    for scheduler in made:
        scheduler.stop()


def test_steps_run_again_and_again(make: Make) -> None:
    often, hourly = Counter(), Counter()
    scheduler = make(Step("often", GLOBAL, often, 0.01), Step("hourly", GLOBAL, hourly, 3600.0))
    until(lambda: often.runs > 5 and hourly.runs == 1)
    scheduler.check()
    assert hourly.runs == 1


def test_a_step_that_raises_is_tried_again_and_harms_no_other(make: Make) -> None:
    broken, sound = Counter(failures=2), Counter()
    scheduler = make(Step("broken", GLOBAL, broken, 0.01, longest_pause_s=0.01), Step("sound", GLOBAL, sound, 0.01))
    until(lambda: broken.runs > 4 and sound.runs > 4)
    scheduler.check()


def test_a_slow_step_delays_no_other_and_its_lease_is_renewed_meanwhile(make: Make) -> None:
    release, other, rival = threading.Event(), Counter(), Counter()
    make(Step("slow", GLOBAL, lambda: release.wait(10), 0.01), Step("other", GLOBAL, other, 0.01))
    until(lambda: other.runs > 2)
    make(Step("rival", GLOBAL, rival, 0.01), holder="two")
    before = other.runs
    until(lambda: other.runs > before + 60)
    assert rival.runs == 0
    release.set()


def test_of_two_controllers_one_acts_and_the_other_takes_over(make: Make) -> None:
    first, second = Counter(), Counter()
    acting = make(Step("count", GLOBAL, first, 0.01), holder="one")
    until(lambda: first.runs > 2)
    make(Step("count", GLOBAL, second, 0.01), holder="two")
    until(lambda: first.runs > 20)
    assert second.runs == 0
    acting.stop()
    stopped_at = first.runs
    until(lambda: second.runs > 2)
    assert first.runs == stopped_at


def test_an_outage_of_the_database_stops_the_steps_and_not_the_loops(make: Make) -> None:
    nowhere = DatabaseSettings(url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), connect_timeout_s=1)
    leased, free = Counter(), Counter()
    with closing(Database(nowhere)) as gone:
        scheduler = make(Step("leased", GLOBAL, leased, 0.01), Step("free", None, free, 0.01), database=gone)
        until(lambda: free.runs > 60)
        scheduler.check()
        scheduler.stop()
    assert leased.runs == 0


def test_a_hung_step_fails_the_health_check(make: Make) -> None:
    release, running = threading.Event(), threading.Event()

    def hang() -> None:
        running.set()
        release.wait(10)

    scheduler = make(Step("hangs", GLOBAL, hang, 0.01, limit_s=0.05))
    running.wait(5)
    until(lambda: _stalled(scheduler))
    release.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_loop_fails_the_health_check(make: Make) -> None:
    def die() -> None:
        raise SystemExit

    scheduler = make(Step("dies", GLOBAL, die, 0.01))
    until(lambda: _stalled(scheduler))


def _stalled(scheduler: Scheduler) -> bool:
    try:
        scheduler.check()
    except ControllerStalled:
        return True
    return False


def test_the_running_controller_repairs_a_flushed_valkey(make: Make, resources: Resources) -> None:
    publisher.publish_revocations(resources)
    resources.cache.flushall()
    make(*global_steps(resources))
    until(lambda: channel.published_versions(resources.cache))
