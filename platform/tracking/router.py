"""Routes of experiments and runs."""

from fastapi import APIRouter

from ..auth.deps import CurrentPrincipal
from ..auth.permissions import Permission
from ..kernel.deps import DbSession, Paging
from ..kernel.pagination import Page
from . import service
from .schemas import ExperimentCreate, ExperimentRead, MetricPoint, MetricsLog, RunCreate, RunRead, RunUpdate

router = APIRouter(tags=["tracking"])

_READ, _WRITE = Permission.RUN_READ, Permission.RUN_WRITE


@router.post("/experiments", status_code=201)
def create_experiment(data: ExperimentCreate, session: DbSession, principal: CurrentPrincipal) -> ExperimentRead:
    """Make an experiment."""
    return ExperimentRead.model_validate(service.create_experiment(session, principal=principal, data=data))


@router.get("/experiments")
def list_experiments(
    session: DbSession, principal: CurrentPrincipal, query: Paging, project_id: str | None = None
) -> Page[ExperimentRead]:
    """List the experiments that the caller may read."""
    page = service.list_experiments(session, principal=principal, query=query, project_id=project_id)
    return page.map(ExperimentRead.model_validate)


@router.get("/experiments/{experiment_id}")
def get_experiment(experiment_id: str, session: DbSession, principal: CurrentPrincipal) -> ExperimentRead:
    """Return one experiment."""
    return ExperimentRead.model_validate(
        service.get_experiment(session, principal=principal, experiment_id=experiment_id, permission=_READ)
    )


@router.delete("/experiments/{experiment_id}", status_code=204)
def delete_experiment(experiment_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """Remove an experiment without runs."""
    service.delete_experiment(
        session,
        service.get_experiment(session, principal=principal, experiment_id=experiment_id, permission=_WRITE),
    )


@router.post("/runs", status_code=201)
def create_run(data: RunCreate, session: DbSession, principal: CurrentPrincipal) -> RunRead:
    """Begin a run."""
    return RunRead.model_validate(service.create_run(session, principal=principal, data=data))


@router.get("/runs")
def list_runs(
    session: DbSession,
    principal: CurrentPrincipal,
    query: Paging,
    project_id: str | None = None,
    experiment_id: str | None = None,
) -> Page[RunRead]:
    """List the runs that the caller may read."""
    page = service.list_runs(
        session, principal=principal, query=query, project_id=project_id, experiment_id=experiment_id
    )
    return page.map(RunRead.model_validate)


@router.get("/runs/{run_id}")
def get_run(run_id: str, session: DbSession, principal: CurrentPrincipal) -> RunRead:
    """Return one run with the last value of each metric."""
    return RunRead.model_validate(service.get_run(session, principal=principal, run_id=run_id, permission=_READ))


@router.patch("/runs/{run_id}")
def update_run(run_id: str, data: RunUpdate, session: DbSession, principal: CurrentPrincipal) -> RunRead:
    """End a run."""
    run = service.get_run(session, principal=principal, run_id=run_id, permission=_WRITE)
    service.finish_run(session, run_id=run.id, status=data.status)
    return RunRead.model_validate(run)


@router.post("/runs/{run_id}/metrics", status_code=204)
def log_metrics(run_id: str, data: MetricsLog, session: DbSession, principal: CurrentPrincipal) -> None:
    """Add the metrics of one step."""
    run = service.get_run(session, principal=principal, run_id=run_id, permission=_WRITE)
    service.log_metrics(session, run_id=run.id, step=data.step, metrics=data.metrics)


@router.get("/runs/{run_id}/metrics")
def get_metric_history(run_id: str, session: DbSession, principal: CurrentPrincipal) -> list[MetricPoint]:
    """Return every value that a run reported."""
    run = service.get_run(session, principal=principal, run_id=run_id, permission=_READ)
    return [MetricPoint.model_validate(point) for point in service.metric_history(session, run.id)]


@router.delete("/runs/{run_id}", status_code=204)
def delete_run(run_id: str, session: DbSession, principal: CurrentPrincipal) -> None:
    """Remove a run with its metrics."""
    service.delete_run(session, service.get_run(session, principal=principal, run_id=run_id, permission=_WRITE))
