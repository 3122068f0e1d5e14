"""The rules of experiments, runs and metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.clock import utc_now
from ..kernel.db import unless_refused
from ..kernel.ids import new_id
from ..kernel.pagination import Glance, Page, PageQuery, glance, paginate
from ..projects.service import authorize, visible
from .errors import ExperimentNameTaken, RunInUse, RunNotFound
from .models import Experiment, Run, RunMetric
from .schemas import ExperimentCreate, ExperimentRead, MetricHistory, MetricPoint, MetricQuery, RunRead, RunStatus


def create_experiment(session: Session, *, principal: Principal, data: ExperimentCreate) -> Experiment:
    """Make an experiment without runs.

    Raises:
        ExperimentNameTaken: If the project has one of that name.
    """
    authorize(session, principal, data.project_id, Permission.RUN_WRITE)
    experiment = Experiment(id=new_id("exp"), **data.model_dump())
    with unless_refused(session, ExperimentNameTaken(f"The project already has an experiment named {data.name!r}.")):
        session.add(experiment)
    return experiment


def ensure_experiment(session: Session, *, project_id: str, name: str) -> Experiment:
    """Return the project's experiment of that name, made if it is missing."""
    statement = select(Experiment).where(Experiment.project_id == project_id, Experiment.name == name)
    found = session.exec(statement).one_or_none()
    if found is not None:
        return found
    experiment = Experiment(id=new_id("exp"), project_id=project_id, name=name)
    try:
        with session.begin_nested():
            session.add(experiment)
    except IntegrityError:
        # Another transaction made it first.
        return session.exec(statement).one()
    return experiment


def list_experiments(
    session: Session, *, principal: Principal, query: PageQuery, project_id: str | None
) -> Page[Experiment]:
    """Return the experiments that the principal may read, optionally of one project."""
    filters = [visible(principal, col(Experiment.project_id), Permission.RUN_READ)]
    if project_id is not None:
        filters.append(col(Experiment.project_id) == project_id)
    return paginate(session, Experiment, query, *filters)


def glance_at_experiments(session: Session, project_id: str) -> Glance:
    """Return how many experiments a project has, and the newest."""
    return glance(session, Experiment, col(Experiment.project_id) == project_id)


def delete_experiment(session: Session, experiment: Experiment) -> None:
    """Remove an experiment with its runs and their metrics.

    Raises:
        RunInUse: If something that is kept refers to one of its runs.
    """
    with unless_refused(
        session, RunInUse(f"A run of {experiment.name!r} still belongs to a training job; delete that first.")
    ):
        session.delete(experiment)


def start_run(
    session: Session,
    *,
    project_id: str,
    experiment: str,
    name: str | None = None,
    parameters: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    model_id: str | None = None,
) -> Run:
    """Start a run of the experiment of that name, which is made if it is missing; the caller has checked the right.

    Args:
        session: The transaction.
        project_id: Where the run belongs.
        experiment: Name of the experiment.
        name: Name of the run; its id unless given.
        parameters: What the run was started with.
        source: What started it, such as ``{"kind": "training_job", "id": …}``.
        model_id: Which model it works on, where that is known.
    """
    run_id = new_id("run")
    run = Run(
        id=run_id,
        project_id=project_id,
        experiment_id=ensure_experiment(session, project_id=project_id, name=experiment).id,
        name=name or run_id,
        model_id=model_id,
        parameters=parameters or {},
        source=source or {},
    )
    session.add(run)
    session.flush()
    return run


def list_runs(
    session: Session,
    *,
    principal: Principal,
    query: PageQuery,
    project_id: str | None = None,
    experiment_id: str | None = None,
) -> Page[Run]:
    """Return the runs that the principal may read, optionally of one project or experiment."""
    filters = [visible(principal, col(Run.project_id), Permission.RUN_READ)]
    if project_id is not None:
        filters.append(col(Run.project_id) == project_id)
    if experiment_id is not None:
        filters.append(col(Run.experiment_id) == experiment_id)
    return paginate(session, Run, query, *filters)


def delete_run(session: Session, run: Run) -> None:
    """Remove a run with its metrics.

    Raises:
        RunInUse: If something that is kept refers to it.
    """
    with unless_refused(session, RunInUse("The run still belongs to a training job; delete that first.")):
        session.delete(run)


def log_metrics(session: Session, run_id: str, step: int, metrics: Mapping[str, float]) -> None:
    """Add finite values to a run; a key may have several values at one step, the last of which counts."""
    now = utc_now()
    rows = [
        {"run_id": run_id, "step": step, "key": key, "value": value, "logged_at": now} for key, value in metrics.items()
    ]
    if rows:
        session.execute(insert(RunMetric), rows)


def metric_history(
    session: Session, run_id: str, *, key: str | None = None, after: int = 0, limit: int | None = None
) -> list[RunMetric]:
    """Return what a run logged, in the order of logging.

    Args:
        session: The transaction.
        run_id: Which run.
        key: Only this metric.
        after: Only rows whose number is greater, for reading in pages.
        limit: At most so many rows.
    """
    statement = select(RunMetric).where(RunMetric.run_id == run_id, col(RunMetric.id) > after)
    if key is not None:
        statement = statement.where(RunMetric.key == key)
    return list(session.exec(statement.order_by(col(RunMetric.id)).limit(limit)))


def read_history(session: Session, run_id: str, query: MetricQuery) -> MetricHistory:
    """Return one page of what a run logged."""
    rows = metric_history(session, run_id, key=query.key, after=int(query.cursor or 0), limit=query.limit + 1)
    kept = rows[: query.limit]
    return MetricHistory(
        items=[MetricPoint.model_validate(row) for row in kept],
        next_cursor=str(kept[-1].id) if len(rows) > query.limit else None,
    )


def last_metrics(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return, by run, the value of each metric at its highest step."""
    found: dict[str, dict[str, float]] = {run_id: {} for run_id in run_ids}
    statement = (
        select(RunMetric)
        .where(col(RunMetric.run_id).in_(run_ids))
        .ext(distinct_on(col(RunMetric.run_id), col(RunMetric.key)))
        .order_by(col(RunMetric.run_id), col(RunMetric.key), col(RunMetric.step).desc(), col(RunMetric.id).desc())
    )
    for row in session.exec(statement):
        found[row.run_id][row.key] = row.value
    return found


def finish_run(
    session: Session,
    run_id: str,
    status: str,
    *,
    model_id: str | None = None,
    artifacts: list[dict[str, Any]] | None = None,
) -> Run:
    """Say how a run ended and what it left; a run that has ended keeps its end.

    Raises:
        RunNotFound: If there is no such run.
        ValueError: If the status is not one of ``RunStatus``.
    """
    statement = select(Run).where(Run.id == run_id).with_for_update()
    run = session.exec(statement.execution_options(populate_existing=True)).one_or_none()
    if run is None:
        raise RunNotFound(run_id)
    if run.completed_at is None and RunStatus(status) is not RunStatus.RUNNING:
        run.status = RunStatus(status)
        run.completed_at = utc_now()
    run.model_id = model_id or run.model_id
    run.artifacts = run.artifacts if artifacts is None else artifacts
    session.add(run)
    session.flush()
    return run


def describe_runs(session: Session, runs: Sequence[Run]) -> list[RunRead]:
    """Show runs, each with the last value of its metrics."""
    metrics = last_metrics(session, [run.id for run in runs])
    return [RunRead(**run.model_dump(), metrics=metrics[run.id]) for run in runs]


def describe_experiments(session: Session, experiments: Sequence[Experiment]) -> list[ExperimentRead]:
    """Show experiments, each with what its newest run did."""
    newest = _newest_runs(session, [experiment.id for experiment in experiments])
    metrics = last_metrics(session, [run.id for run in newest.values()])
    answers = []
    for experiment in experiments:
        run = newest.get(experiment.id)
        shown: dict[str, Any] = {}
        if run is not None:
            shown = run.model_dump(
                include={"model_id", "parameters", "artifacts", "status", "started_at", "completed_at"}
            ) | {"run_id": run.id, "metrics": metrics[run.id]}
        answers.append(ExperimentRead(**experiment.model_dump(), **shown))
    return answers


def _newest_runs(session: Session, experiment_ids: Sequence[str]) -> dict[str, Run]:
    statement = (
        select(Run)
        .where(col(Run.experiment_id).in_(experiment_ids))
        .ext(distinct_on(col(Run.experiment_id)))
        .order_by(col(Run.experiment_id), col(Run.id).desc())
    )
    return {run.experiment_id: run for run in session.exec(statement)}
