"""Jobs between two controllers with real leases: each starts once, and only a dead cluster's jobs are taken over."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col

from timing import until

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from training import SteeredRuntime, make_table, start_job

from factories import Tenant
from raymill.compute.jobs import JobState
from raymill.controller.leases import LeaseKeeper
from raymill.controller.lost_jobs import LostJobs
from raymill.controller.models import Lease
from raymill.controller.scheduler import Scheduler, Step
from raymill.controller.steps import cluster_lease
from raymill.kernel.clock import utc_now
from raymill.kernel.resources import Resources
from raymill.train.programs import JobProgram
from raymill.train.reconcile import step

pytestmark = pytest.mark.integration

HERE = "cluster-1"
LIFE_S = 0.6


class SharedCluster(SteeredRuntime):
    """One cluster that several controllers see at once; what is started there ends well a moment later."""

    def __init__(self) -> None:
        super().__init__(HERE)
        self._lock = threading.Lock()

    def submit(self, ray_id: str, program: JobProgram, *, api_key: str, request_id: str) -> None:
        with self._lock:
            super().submit(ray_id, program, api_key=api_key, request_id=request_id)

    def states(self) -> dict[str, JobState]:
        with self._lock:
            seen = dict(super().states())
            self.states_by_id = {ray_id: JobState("FAILED", exit_code=1) for ray_id in seen}
        return seen


@pytest.fixture
def controllers(resources: Resources) -> Iterator[Callable[..., Scheduler]]:
    """Start controllers of the cluster that are stopped when the test ends."""
    made: list[Scheduler] = []

    def start(holder: str, run: Callable[[], object]) -> Scheduler:
        lease = cluster_lease(HERE)
        keeper = LeaseKeeper(resources.database, names=(lease,), holder=holder, life_s=LIFE_S)
        scheduler = Scheduler([Step("jobs", lease, run, 0.02)], keeper)
        made.append(scheduler)
        scheduler.start()
        return scheduler

    yield start
    for scheduler in made:
        scheduler.stop()


@pytest.fixture
def jobs(alice: Tenant) -> list[dict[str, Any]]:
    """Queue five jobs."""
    dataset_id = make_table(alice)
    return [start_job(alice, dataset_id) for _ in range(5)]


def statuses(tenant: Tenant) -> list[str]:
    return [job["status"] for job in tenant.get("/training-jobs").json()["items"]]


def wait_until_ended(tenant: Tenant) -> None:
    until(lambda: set(statuses(tenant)) == {"failed"}, within_s=15, what="all jobs have failed", every_s=0.05)


def test_of_two_controllers_each_job_starts_once(
    resources: Resources, controllers: Callable[..., Scheduler], alice: Tenant, jobs: list[dict[str, Any]]
) -> None:
    cluster = SharedCluster()
    for holder in ("one", "two"):
        controllers(holder, lambda: step(resources, cluster))
    wait_until_ended(alice)
    assert sorted(cluster.starts) == [job["id"] for job in jobs]


def test_without_any_lease_each_job_still_starts_once(
    resources: Resources, alice: Tenant, jobs: list[dict[str, Any]]
) -> None:
    cluster, deadline = SharedCluster(), time.monotonic() + 15

    def sweep() -> None:
        while set(statuses(alice)) != {"failed"} and time.monotonic() < deadline:
            step(resources, cluster)

    sweepers = [threading.Thread(target=sweep) for _ in range(3)]
    for sweeper in sweepers:
        sweeper.start()
    for sweeper in sweepers:
        sweeper.join()
    assert sorted(cluster.starts) == [job["id"] for job in jobs]
    assert set(statuses(alice)) == {"failed"}


def test_a_controller_that_dies_with_a_full_queue_is_replaced_and_each_job_starts_once(
    resources: Resources, controllers: Callable[..., Scheduler], alice: Tenant, jobs: list[dict[str, Any]]
) -> None:
    cluster, dead = SharedCluster(), threading.Event()

    def die_after_the_first_submission() -> None:
        if cluster.starts:
            dead.set()
            threading.Event().wait(2 * LIFE_S)
        else:
            step(resources, cluster)

    first = controllers("one", die_after_the_first_submission)
    assert dead.wait(10)
    # It renews its lease no more and does not let go of it, as a killed process.
    first._stopping.set()
    began = time.monotonic()
    controllers("two", lambda: step(resources, cluster))
    wait_until_ended(alice)
    assert time.monotonic() - began < LIFE_S + 5
    assert sorted(cluster.starts) == [job["id"] for job in jobs]


def test_only_the_jobs_of_a_cluster_whose_lease_is_long_over_are_taken_over(
    resources: Resources, alice: Tenant, jobs: list[dict[str, Any]]
) -> None:
    runtime = SteeredRuntime(HERE)
    step(resources, runtime)
    for ray_id in runtime.starts:
        runtime.put(ray_id, "RUNNING")
    step(resources, runtime)
    life_s, clock = resources.settings.controller.lease_s, [0.0]
    lost = LostJobs(resources, prefix="cluster:", monotonic=lambda: clock[0])

    def watch(expired_s: float) -> int:
        """Let the lease have run out so long ago, watch on, and count the jobs that were taken over."""
        with resources.session() as session:
            moment = utc_now() - timedelta(seconds=expired_s)
            session.execute(update(Lease).where(col(Lease.name) == cluster_lease(HERE)).values(expires_at=moment))
        clock[0] += 1.0
        lost.step()
        return statuses(alice).count("failed")

    with resources.session() as session:
        session.add(Lease(name=cluster_lease(HERE), holder="one", expires_at=utc_now()))
    for _ in range(int(life_s)):
        assert watch(life_s - 2) == 0
    assert watch(life_s + 1) == len(runtime.starts) == 2


def test_after_an_outage_nothing_is_judged_before_others_could_renew(
    resources: Resources, alice: Tenant, jobs: list[dict[str, Any]]
) -> None:
    runtime = SteeredRuntime(HERE)
    step(resources, runtime)
    for ray_id in runtime.starts:
        runtime.put(ray_id, "RUNNING")
    step(resources, runtime)
    clock = [0.0]
    lost = LostJobs(resources, prefix="cluster:", monotonic=lambda: clock[0])
    for moment in (0.0, 1.0, 2.0, 60.0, 61.0, 62.0):
        clock[0] = moment
        lost.step()
    assert statuses(alice).count("failed") == 0
    clock[0] = 65.0
    lost.step()
    assert statuses(alice).count("failed") == 2
