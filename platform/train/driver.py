"""The program of a training job, run by Ray as ``python -m raymill.train.driver <job id>``.

It knows nothing of database, cache or object store: the dataset comes and the model goes by the platform's API, with
an API key of its own project that dies with the job.
"""

import json
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from ..registry.schemas import MAX_EXAMPLE_BYTES
from ..sdk import Client, ExternalServiceError, RateLimited, RaymillError, Retries, TrainingJob
from ..sdk.train import connect
from .checkpoint_writer import CheckpointWriter
from .patience import PATIENT, once_there
from .schemas import ResourceRequirements, RestartPolicy
from .trainers import Trainer, check_parameters, get_trainer
from .trainers.task import TrainedModel, TrainingTask, say


@cache
def platform(retries: Retries = PATIENT) -> Client:
    """Return this process' client of the platform."""
    # Ray Train turns the root logger to INFO, and httpx would write a line for each call.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return connect(retries=retries)


def report_epoch(job_id: str, total_epochs: int, epoch: int, metrics: dict[str, float]) -> None:
    """Tell the platform how far the job is; one that is away or asked too often does not end the training."""
    jobs = platform(Retries()).training_jobs
    try:
        jobs.report_progress(job_id, epoch=epoch, total_epochs=total_epochs, metrics=metrics)
    except (ExternalServiceError, RateLimited) as error:
        say(f"epoch {epoch} was not reported: {error}")


@dataclass(frozen=True)
class PlatformCheckpoints:
    """The checkpoints of one job, kept with the platform; any node and any cluster finds them there."""

    job_id: str

    def last(self) -> bytes | None:
        """Return the newest state that the platform has."""
        with TemporaryDirectory(prefix="raymill-checkpoint-") as folder:
            path = Path(folder) / "state"
            found = platform().training_jobs.fetch_checkpoint(self.job_id, path)
            return path.read_bytes() if found else None

    def offer(self, epoch: int, state: Callable[[], bytes]) -> None:
        """Keep the state after an epoch, if it is time to."""
        checkpoint_writer(self.job_id).offer(epoch, state)


@cache
def checkpoint_writer(job_id: str) -> CheckpointWriter:
    """Return this process' writer of a job's checkpoints."""

    def upload(epoch: int, content: bytes) -> None:
        try:
            platform(Retries()).training_jobs.put_checkpoint(job_id, content, epoch=epoch)
        except RaymillError as error:
            say(f"the checkpoint of epoch {epoch} was not kept: {error}")

    return CheckpointWriter(upload)


def run(job_id: str, folder: Path) -> None:
    """Train what the job asks for and register it.

    Raises:
        RaymillError: If the platform refuses or does not answer.
    """
    client = platform()
    job = once_there(partial(client.training_jobs.get, job_id))
    trainer = get_trainer(job.config["trainer"], job.config["framework"])
    parameters: Any = check_parameters(trainer, job.config["hyperparameters"])
    task = TrainingTask(
        name=job_id,
        table=_fetch_table(client, job.config["dataset"], folder),
        parameters=parameters,
        resources=ResourceRequirements.model_validate(job.config["resources"]),
        folder=folder,
        report=partial(report_epoch, job_id, parameters.epochs),
        checkpoints=PlatformCheckpoints(job_id),
        max_restarts=RestartPolicy.of(job.config).max_restarts,
    )
    trained = _entry(trainer)(task)
    version_id = _register(client, job, trained)
    client.training_jobs.report_result(job_id, model_version_id=version_id, metrics=trained.metrics)


def main() -> int:
    """Run one job; the last line of a failed one's log says why."""
    # Ray ends a job by SIGTERM, and by SIGKILL three seconds later: leave no files behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ray.init(logging_level=logging.WARNING)
    with TemporaryDirectory(prefix="raymill-job-") as folder:
        try:
            run(sys.argv[1], Path(folder))
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            say(f"{type(error).__name__}: {error}")
            return 1
    return 0


def _fetch_table(client: Client, dataset: dict[str, Any], folder: Path) -> pa.Table:
    path = folder / "dataset.parquet"
    client.datasets.download(dataset["id"], dataset["version"], path)
    say(f"dataset {dataset['id']} version {dataset['version']}: {path.stat().st_size} bytes")
    return pq.read_table(path, memory_map=True)


def _entry(trainer: Trainer) -> Callable[[TrainingTask], TrainedModel]:
    module, _, function = trainer.entry.partition(":")
    entry: Callable[[TrainingTask], TrainedModel] = getattr(import_module(module), function)
    return entry


def _register(client: Client, job: TrainingJob, trained: TrainedModel) -> str:
    models, model_id = client.models, job.model_id
    if model_id is None:
        raise ValueError(f"The job {job.id} has no model to register a version of.")
    draft = models.create_version(
        model_id,
        signature=trained.signature,
        metrics=trained.metrics,
        source={"kind": "training_job", "id": job.id},
    )
    try:
        for file in trained.files:
            models.put_artifact(draft.model_id, draft.version, file.path.name, file.path, type=file.type)
        ready = models.complete_version(draft.model_id, draft.version, example=_example(trained))
    except RaymillError as error:
        models.fail_version(draft.model_id, draft.version, error=str(error))
        raise
    say(f"model {model_id} version {ready.version} is ready")
    return ready.id


def _example(trained: TrainedModel) -> list[dict[str, Any]] | None:
    """Return the rows to register as an example, none where a row is too wide for one."""
    rows = [trained.example]
    return rows if len(json.dumps(rows)) <= MAX_EXAMPLE_BYTES else None


if __name__ == "__main__":
    # The functions of ``__main__`` would travel to the workers by value; those of the module travel by name.
    from .driver import main as run_driver

    sys.exit(run_driver())
