"""Dependencies that put the caller's right to an experiment or a run into an endpoint's signature."""

from typing import Annotated

from fastapi import Depends
from sqlmodel import Session

from ..auth.deps import CurrentPrincipal
from ..auth.needs import needs
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import DbSession
from ..projects.service import authorize_owned
from .errors import ExperimentNotFound, RunNotFound
from .models import Experiment, Run

__all__ = ["ExperimentReader", "ExperimentWriter", "RunReader", "RunWriter"]


def _experiment(session: Session, principal: Principal, experiment_id: str, permission: Permission) -> Experiment:
    experiment = session.get(Experiment, experiment_id)
    return authorize_owned(session, principal, experiment, permission, missing=ExperimentNotFound(experiment_id))


def _run(session: Session, principal: Principal, run_id: str, permission: Permission) -> Run:
    return authorize_owned(session, principal, session.get(Run, run_id), permission, missing=RunNotFound(run_id))


@needs(Permission.RUN_READ)
def _experiment_reader(experiment_id: str, principal: CurrentPrincipal, session: DbSession) -> Experiment:
    return _experiment(session, principal, experiment_id, Permission.RUN_READ)


@needs(Permission.RUN_WRITE)
def _experiment_writer(experiment_id: str, principal: CurrentPrincipal, session: DbSession) -> Experiment:
    return _experiment(session, principal, experiment_id, Permission.RUN_WRITE)


@needs(Permission.RUN_READ)
def _run_reader(run_id: str, principal: CurrentPrincipal, session: DbSession) -> Run:
    return _run(session, principal, run_id, Permission.RUN_READ)


@needs(Permission.RUN_WRITE)
def _run_writer(run_id: str, principal: CurrentPrincipal, session: DbSession) -> Run:
    return _run(session, principal, run_id, Permission.RUN_WRITE)


ExperimentReader = Annotated[Experiment, Depends(_experiment_reader)]
ExperimentWriter = Annotated[Experiment, Depends(_experiment_writer)]
RunReader = Annotated[Run, Depends(_run_reader)]
RunWriter = Annotated[Run, Depends(_run_writer)]
