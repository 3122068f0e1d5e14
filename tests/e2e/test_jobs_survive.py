"""Jobs on a whole platform when something under them is killed; each test says how fast the job was whole again."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from ray.job_submission import JobSubmissionClient

from raymill.compute.cluster import Cluster
from raymill.compute.embedded.ray_head import EmbeddedRay
from raymill.compute.jobs import RayJobs
from raymill.kernel.settings import Settings
from raymill.sdk import TrainingJob
from timing import until
from whole_platform import Platform, Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

EPOCHS = 120
TWO_WORKERS = {"num_workers": 2, "cpus_per_worker": 0.5}


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was seen; the figures of the run stand in its report."""
    return lambda text: request.node.user_properties.append(("recovery", text)) or sys.stderr.write(f"\n{text}\n")


@pytest.fixture
def start(tenant: Tenant) -> Iterator[Callable[..., TrainingJob]]:
    """Start long jobs, which are cancelled at the end."""
    started: list[str] = []

    def start(epochs: int = 5000, **options: Any) -> TrainingJob:
        job = tenant.client.training_jobs.start(
            project_id=tenant.project_id,
            dataset=tenant.dataset_id,
            model="survivor",
            hyperparameters={"target": "digit", "epochs": epochs},
            **options,
        )
        started.append(job.id)
        return job

    yield start
    for job_id in started:
        if not tenant.client.training_jobs.get(job_id).has_ended:
            tenant.client.training_jobs.cancel(job_id)
            tenant.client.training_jobs.wait(job_id, timeout_s=60)


def processes(*words: str) -> list[psutil.Process]:
    """Return the processes whose command lines hold all of the words, each as or in one argument."""
    found = []
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        if all(any(word in argument for argument in arguments) for word in words):
            found.append(process)
    return found


def driver_of(job: TrainingJob) -> psutil.Process | None:
    """Return the process that runs the job's driver; a shell that started it holds the command in one argument."""
    return next((one for one in processes("raymill.train.driver", job.id) if job.id in one.cmdline()), None)


def test_a_killed_driver_fails_its_job_at_once(
    tenant: Tenant, start: Callable[..., TrainingJob], tell: Callable[[str], None]
) -> None:
    job = start()
    until(lambda: tenant.client.training_jobs.get(job.id).progress.epoch > 2, within_s=60, what="it trains")
    driver = driver_of(job)
    assert driver
    driver.kill()
    killed = time.monotonic()
    ended = tenant.client.training_jobs.wait(job.id, timeout_s=30, poll_s=0.1)
    seconds = time.monotonic() - killed
    tell(f"driver killed: failed after {seconds:.1f} s: {ended.error}")
    assert ended.error
    assert (ended.status, ended.error.type) == ("failed", "DRIVER_KILLED")
    assert seconds < 10


def test_logs_grow_while_a_job_runs(tenant: Tenant, start: Callable[..., TrainingJob]) -> None:
    jobs, job = tenant.client.training_jobs, start()
    first = until(lambda: jobs.logs(job.id), within_s=60, what="the first log lines")
    until(lambda: len(jobs.logs(job.id)) > len(first), within_s=30, what="more log lines")
    jobs.cancel(job.id)
    assert jobs.wait(job.id, timeout_s=60).status == "cancelled"
    assert jobs.logs(job.id).startswith(first)


def test_a_killed_controller_starts_each_job_of_its_queue_once(
    platform: Platform, tenant: Tenant, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    settings = Settings(home=platform.home)
    key = tenant.client.api_keys.create(name="queue", project_id=tenant.project_id).key
    door = JobSubmissionClient(f"{platform.url}/api/v1/jobs", headers={"Authorization": f"Bearer {key}"})
    with Cluster.connect(settings) as cluster:
        [controller] = [
            one for app in cluster.serve_apps() if app.name == "controller" for one in app.replicas if one.pid
        ]
        names = [door.submit_job(entrypoint=f"echo started >> {tmp_path}/{n}; sleep 0.3") for n in range(5)]
        until(lambda: any(tmp_path.iterdir()), within_s=60, what="the first program starts")
        os.kill(controller.pid or 0, signal.SIGKILL)
        killed = time.monotonic()

        def ended() -> bool:
            return all(door.get_job_status(name).is_terminal() for name in names)

        until(ended, within_s=90, what="all programs end")
        seconds = time.monotonic() - killed
        states = [door.get_job_status(name) for name in names]
        ours = {row["id"] for row in jobs_of(platform, key or "")}
        in_ray = [ray_id for ray_id in RayJobs(cluster).states() if ray_id.partition("-")[0] in ours]
    starts = [(tmp_path / str(n)).read_text() for n in range(5)]
    tell(f"controller killed with a queue of five: all had run {seconds:.1f} s later, {states}")
    assert starts == ["started\n"] * 5
    assert len(in_ray) == len(set(in_ray)) == 5
    assert {state.value for state in states} == {"SUCCEEDED"}
    assert seconds < 60


def jobs_of(platform: Platform, key: str) -> list[dict[str, Any]]:
    """Return the submitted programs of the key's project."""
    answer = httpx.get(f"{platform.url}/api/v1/training-jobs", params={"limit": 200}, headers={"X-API-Key": key})
    rows: list[dict[str, Any]] = answer.json()["items"]
    return [row for row in rows if "started >>" in row["config"].get("entrypoint", "")]


def test_jobs_outlive_a_worker_and_their_cluster_by_their_own_policy(
    platform: Platform,
    tenant: Tenant,
    digits: Any,
    start: Callable[..., TrainingJob],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    """One job loses a worker and then, together with another one, its whole cluster."""
    jobs, settings = tenant.client.training_jobs, Settings(home=platform.home)
    with Cluster.connect(settings) as cluster:
        former = cluster.cluster_id()
    resumes, fails = start(EPOCHS, resources=TWO_WORKERS, restart={"on_loss": "resume"}), start()

    def resumed() -> list[int]:
        return [int(epoch) for epoch in re.findall(r"resumed after epoch (\d+)", jobs.logs(resumes.id))]

    until(lambda: jobs.fetch_checkpoint(resumes.id, tmp_path / "state"), within_s=90, what="a checkpoint")
    members = EmbeddedRay(settings).find_processes()
    workers = [one for one in processes("RayTrainWorker") if one in members]
    assert len(workers) == 2
    workers[-1].kill()
    killed = time.monotonic()
    until(lambda: len(resumed()) == 1, within_s=60, what="new workers go on from the checkpoint")
    replaced = time.monotonic() - killed
    tell(f"train worker killed: new ones went on from epoch {resumed()} of {EPOCHS} after {replaced:.1f} s")
    assert replaced < 45

    assert jobs.get(fails.id).status == "running"
    done = next(jobs.list(project_id=tenant.project_id, status="completed"))
    log_of_done = jobs.logs(done.id)
    assert log_of_done
    drivers = [driver_of(job) for job in (fails, resumes)]
    doomed = [*EmbeddedRay(settings).find_processes(), *(one for one in drivers if one)]
    for process in doomed:
        # One that is found dead already died of the death of another.
        with suppress(psutil.NoSuchProcess):
            process.kill()
    killed = time.monotonic()
    # The dead hold their ports until the kernel has taken them down.
    assert not psutil.wait_procs(doomed, timeout=20)[1]
    platform.up()
    up = time.monotonic() - killed
    answer = tenant.client.endpoints.predict(tenant.deployment.endpoint, digits.held_out[:1])
    assert len(answer.predictions) == 1
    assert jobs.logs(done.id) == log_of_done
    lost = jobs.wait(fails.id, timeout_s=60, poll_s=0.1)
    judged = time.monotonic() - killed
    until(lambda: len(resumed()) == 2, within_s=90, what="the job goes on from its checkpoint")
    again = time.monotonic() - killed
    tell(
        f"whole cluster killed: up and answering after {up:.1f} s, one job LOST_CLUSTER after {judged:.1f} s, "
        f"the other went on from epoch {resumed()[-1]} of {EPOCHS} after {again:.1f} s"
    )
    assert lost.error
    assert (lost.status, lost.error.type) == ("failed", "LOST_CLUSTER")
    assert judged < up + 20
    assert again < up + 45
    ended = jobs.wait(resumes.id, timeout_s=90)
    log = jobs.logs(resumes.id)
    assert (ended.status, ended.attempt) == ("completed", 1), log
    told = {int(epoch) for epoch in re.findall(rf"epoch (\d+)/{EPOCHS} ", log)}
    # What was saved in the moment before a death may not have been told any more.
    untold = set(range(1, EPOCHS + 1)) - told
    assert all(any(0 <= last - epoch < 10 for last in resumed()) for epoch in untold), untold
    assert 1 <= resumed()[0] <= resumed()[1] < EPOCHS
    rows = dict(re.findall(r"worker (\d): (\d+) rows", log))
    assert set(rows) == {"0", "1"}
    assert sum(map(int, rows.values())) == len(digits.train)
    with Cluster.connect(settings) as cluster:
        assert cluster.cluster_id() != former
