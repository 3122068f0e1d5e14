"""What Ray runs for a job: our own driver, or the command that a user submitted."""

import sys
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from .launcher import references
from .models import TrainingJob
from .schemas import ResourceRequirements, SubmittedProgram

_OWN_PREFIX = "RAYMILL_"


@dataclass(frozen=True)
class JobProgram:
    """A command, where it runs, and what it takes; ``packages`` maps URIs of Ray's package store to stored blobs."""

    entrypoint: str
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    memory: int | None = None
    resources: dict[str, float] = field(default_factory=dict)
    env_vars: dict[str, str] = field(default_factory=dict, repr=False)
    runtime_env: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)


def is_submitted(config: dict[str, Any]) -> bool:
    """Tell whether a user submitted the program; such a job makes no model version of its own."""
    return "entrypoint" in config


def program_of(job: TrainingJob) -> JobProgram:
    """Return what Ray has to run for a job."""
    if is_submitted(job.config):
        return _submitted(SubmittedProgram.model_validate(job.config), job.project_id)
    needs = ResourceRequirements.model_validate(job.config["resources"])
    # With one worker the driver itself trains; with more, Ray places the workers and the driver only waits.
    alone = needs.num_workers == 1
    return JobProgram(
        entrypoint=f"{quote(sys.executable)} -m raymill.train.driver {quote(job.id)}",
        num_cpus=needs.cpus_per_worker if alone else 0.0,
        num_gpus=needs.gpus_per_worker if alone else 0.0,
    )


def _submitted(program: SubmittedProgram, project_id: str) -> JobProgram:
    needs = program.resources
    own = {name: value for name, value in program.runtime_env.items() if name != "env_vars"}
    given = program.runtime_env.get("env_vars", {})
    return JobProgram(
        entrypoint=_launched(program.entrypoint, project_id) if references(given) else program.entrypoint,
        num_cpus=needs.entrypoint_num_cpus,
        num_gpus=needs.entrypoint_num_gpus,
        memory=needs.entrypoint_memory,
        resources=needs.entrypoint_resources,
        env_vars={name: value for name, value in given.items() if not name.startswith(_OWN_PREFIX)},
        runtime_env=own,
        metadata=program.metadata,
        packages=program.packages,
    )


def _launched(entrypoint: str, project_id: str) -> str:
    # -P: a file in the program's own folder does not take the place of a module that the launcher needs.
    return f"{quote(sys.executable)} -P -m raymill.train.launcher {quote(project_id)} {quote(entrypoint)}"
