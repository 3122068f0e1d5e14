"""Dependencies that put the caller's right to an experiment or a run into an endpoint's signature."""

from typing import Annotated

from fastapi import Depends
from sqlmodel import Session

from ..auth.deps import CurrentPrincipal
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import DbSession
from ..projects.errors import ProjectNotFound
from ..projects.service import authorize
from .errors import ExperimentNotFound, RunNotFound
from .models import Experiment, Run
from .service import get_experiment, get_run

__all__ = ["ExperimentReader", "ExperimentWriter", "RunReader", "RunWriter"]


def _experiment(session: Session, principal: Principal, experiment_id: str, permission: Permission) -> Experiment:
    experiment = get_experiment(session, experiment_id)
    try:
        authorize(session, principal, experiment.project_id, permission)
    except ProjectNotFound as error:
        raise ExperimentNotFound(f"There is no experiment {experiment_id}.") from error
    return experiment


def _run(session: Session, principal: Principal, run_id: str, permission: Permission) -> Run:
    run = get_run(session, run_id)
    try:
        authorize(session, principal, run.project_id, permission)
    except ProjectNotFound as error:
        raise RunNotFound(f"There is no run {run_id}.") from error
    return run


def _experiment_reader(experiment_id: str, principal: CurrentPrincipal, session: DbSession) -> Experiment:
    return _experiment(session, principal, experiment_id, Permission.RUN_READ)


def _experiment_writer(experiment_id: str, principal: CurrentPrincipal, session: DbSession) -> Experiment:
    return _experiment(session, principal, experiment_id, Permission.RUN_WRITE)


def _run_reader(run_id: str, principal: CurrentPrincipal, session: DbSession) -> Run:
    return _run(session, principal, run_id, Permission.RUN_READ)


def _run_writer(run_id: str, principal: CurrentPrincipal, session: DbSession) -> Run:
    return _run(session, principal, run_id, Permission.RUN_WRITE)


ExperimentReader = Annotated[Experiment, Depends(_experiment_reader)]
ExperimentWriter = Annotated[Experiment, Depends(_experiment_writer)]
RunReader = Annotated[Run, Depends(_run_reader)]
RunWriter = Annotated[Run, Depends(_run_writer)]
