"""The rules of experiments, runs and metrics."""

from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.ids import new_id
from ..kernel.pagination import Page, PageQuery, paginate
from ..projects.errors import ProjectNotFound
from ..projects.service import authorize, visible
from .errors import ExperimentNameTaken, ExperimentNotFound, RunInUse, RunNotFound
from .models import Experiment, Run, RunMetric
from .schemas import ExperimentCreate, RunCreate, RunStatus


def create_experiment(session: Session, *, principal: Principal, data: ExperimentCreate) -> Experiment:
    """Make an experiment.

    Raises:
        ExperimentNameTaken: If the project has one of this name.
    """
    authorize(session, principal, data.project_id, Permission.RUN_WRITE)
    experiment = Experiment(id=new_id("exp"), **data.model_dump())
    try:
        with session.begin_nested():
            session.add(experiment)
    except IntegrityError as error:
        raise ExperimentNameTaken(f"The project already has an experiment {data.name!r}.") from error
    return experiment


def get_experiment(session: Session, *, principal: Principal, experiment_id: str, permission: Permission) -> Experiment:
    """Return an experiment that the principal holds the permission for.

    Raises:
        ExperimentNotFound: If it does not exist, or not for this principal.
    """
    experiment = session.get(Experiment, experiment_id)
    missing = ExperimentNotFound(f"There is no experiment {experiment_id}.")
    if experiment is None:
        raise missing
    try:
        authorize(session, principal, experiment.project_id, permission)
    except ProjectNotFound as error:
        raise missing from error
    return experiment


def list_experiments(
    session: Session, *, principal: Principal, query: PageQuery, project_id: str | None
) -> Page[Experiment]:
    """Return the experiments that the principal may read."""
    filters = [visible(principal, col(Experiment.project_id), Permission.RUN_READ)]
    if project_id is not None:
        filters.append(col(Experiment.project_id) == project_id)
    return paginate(session, Experiment, query, *filters)


def delete_experiment(session: Session, experiment: Experiment) -> None:
    """Remove an experiment without runs.

    Raises:
        RunInUse: If it has runs.
    """
    try:
        with session.begin_nested():
            session.delete(experiment)
    except IntegrityError as error:
        raise RunInUse(f"The experiment {experiment.name!r} has runs; delete those first.") from error


def ensure_experiment(session: Session, *, project_id: str, name: str) -> str:
    """Return the id of the project's experiment of this name, making it when missing."""
    claim = insert(Experiment).values(
        id=new_id("exp"), project_id=project_id, name=name, description="", created_at=utc_now()
    )
    session.execute(claim.on_conflict_do_nothing(index_elements=["project_id", "name"]))
    same = select(Experiment.id).where(Experiment.project_id == project_id, Experiment.name == name)
    return session.exec(same).one()


def start_run(
    session: Session,
    *,
    project_id: str,
    experiment_id: str,
    name: str,
    parameters: dict[str, Any],
    source: str | None = None,
) -> Run:
    """Begin a run; ``source`` names what makes it, such as a training job's id."""
    run = Run(
        id=new_id("run"),
        project_id=project_id,
        experiment_id=experiment_id,
        name=name,
        status=RunStatus.RUNNING,
        parameters=parameters,
        source=source,
    )
    session.add(run)
    session.flush()
    return run


def create_run(session: Session, *, principal: Principal, data: RunCreate) -> Run:
    """Begin a run that a user reports to."""
    experiment = get_experiment(
        session, principal=principal, experiment_id=data.experiment_id, permission=Permission.RUN_WRITE
    )
    return start_run(
        session,
        project_id=experiment.project_id,
        experiment_id=experiment.id,
        name=data.name,
        parameters=data.parameters,
    )


def get_run(session: Session, *, principal: Principal, run_id: str, permission: Permission) -> Run:
    """Return a run that the principal holds the permission for.

    Raises:
        RunNotFound: If it does not exist, or not for this principal.
    """
    run = session.get(Run, run_id)
    missing = RunNotFound(f"There is no run {run_id}.")
    if run is None:
        raise missing
    try:
        authorize(session, principal, run.project_id, permission)
    except ProjectNotFound as error:
        raise missing from error
    return run


def list_runs(
    session: Session,
    *,
    principal: Principal,
    query: PageQuery,
    project_id: str | None,
    experiment_id: str | None,
) -> Page[Run]:
    """Return the runs that the principal may read."""
    filters = [visible(principal, col(Run.project_id), Permission.RUN_READ)]
    if project_id is not None:
        filters.append(col(Run.project_id) == project_id)
    if experiment_id is not None:
        filters.append(col(Run.experiment_id) == experiment_id)
    return paginate(session, Run, query, *filters)


def log_metrics(session: Session, *, run_id: str, step: int, metrics: dict[str, float]) -> None:
    """Add one value per metric, and keep the last ones beside the run.

    Raises:
        RunNotFound: If there is no such run.
    """
    run = session.get(Run, run_id, with_for_update=True)
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.")
    session.add_all(
        RunMetric(id=new_id("met"), run_id=run_id, step=step, key=key, value=value) for key, value in metrics.items()
    )
    run.metrics = {**run.metrics, **metrics}
    session.add(run)


def metric_history(session: Session, run_id: str) -> list[RunMetric]:
    """Return every reported value of a run, by step and then by time."""
    history = select(RunMetric).where(RunMetric.run_id == run_id)
    return list(session.exec(history.order_by(col(RunMetric.step), col(RunMetric.id))))


def finish_run(session: Session, *, run_id: str, status: RunStatus) -> None:
    """Write down how a run ended; an ended run stays as it is.

    Raises:
        RunNotFound: If there is no such run.
    """
    run = session.get(Run, run_id, with_for_update=True)
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.")
    if run.status == RunStatus.RUNNING:
        run.status = status
        run.completed_at = None if status is RunStatus.RUNNING else utc_now()
        session.add(run)


def delete_run(session: Session, run: Run) -> None:
    """Remove a run with its metrics.

    Raises:
        RunInUse: If a training job reports to it.
    """
    try:
        with session.begin_nested():
            session.delete(run)
    except IntegrityError as error:
        raise RunInUse(f"The run {run.name!r} belongs to a training job; delete that first.") from error
