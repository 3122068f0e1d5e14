"""Routes of experiments, runs and metrics."""

from typing import Annotated

from fastapi import APIRouter, Query

from ..auth.deps import CurrentPrincipal, OncePerKey
from ..auth.needs import needs, shows
from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..kernel.deps import DbSession, Paging
from ..kernel.pagination import Page
from ..projects.service import choose_project
from . import service
from .deps import ExperimentReader, ExperimentWriter, RunReader, RunWriter
from .schemas import (
    ExperimentCreate,
    ExperimentRead,
    MetricHistory,
    MetricQuery,
    MetricsWrite,
    RunCreate,
    RunFinish,
    RunRead,
)

router = APIRouter(tags=["tracking"])


@router.post("/experiments", status_code=201)
@needs(Permission.RUN_WRITE)
def create_experiment(
    data: ExperimentCreate, session: DbSession, principal: CurrentPrincipal, key: OncePerKey
) -> ExperimentRead:
    """Make an experiment without runs."""

    def create() -> ExperimentRead:
        experiment = service.create_experiment(session, principal=principal, data=data)
        return service.describe_experiments(session, [experiment])[0]

    return key.once(session, data, ExperimentRead, create)


@router.get("/experiments")
@shows(Permission.RUN_READ)
def list_experiments(
    session: DbSession, principal: CurrentPrincipal, query: Paging, project_id: str | None = None
) -> Page[ExperimentRead]:
    """List the experiments that the caller may read."""
    page = service.list_experiments(session, principal=principal, query=query, project_id=project_id)
    return Page(items=service.describe_experiments(session, page.items), next_cursor=page.next_cursor)


@router.get("/experiments/{experiment_id}")
def get_experiment(experiment: ExperimentReader, session: DbSession) -> ExperimentRead:
    """Return one experiment with what its newest run did."""
    return service.describe_experiments(session, [experiment])[0]


@router.delete("/experiments/{experiment_id}", status_code=204)
def delete_experiment(experiment: ExperimentWriter, session: DbSession) -> None:
    """Remove an experiment with its runs."""
    service.delete_experiment(session, experiment)


@router.post("/runs", status_code=201)
@needs(Permission.RUN_WRITE)
def create_run(data: RunCreate, session: DbSession, principal: CurrentPrincipal, key: OncePerKey) -> RunRead:
    """Start a run."""
    project = choose_project(session, principal, data.project_id, Permission.RUN_WRITE)

    def create() -> RunRead:
        wanted = data.model_dump() | {"project_id": project.id}
        run = service.start_run(session, **wanted, source=_source(principal))
        return service.describe_runs(session, [run])[0]

    return key.once(session, data, RunRead, create)


@router.get("/runs")
@shows(Permission.RUN_READ)
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
    return Page(items=service.describe_runs(session, page.items), next_cursor=page.next_cursor)


@router.get("/runs/{run_id}")
def get_run(run: RunReader, session: DbSession) -> RunRead:
    """Return one run with the last value of each metric."""
    return service.describe_runs(session, [run])[0]


@router.delete("/runs/{run_id}", status_code=204)
def delete_run(run: RunWriter, session: DbSession) -> None:
    """Remove a run with its metrics."""
    service.delete_run(session, run)


@router.post("/runs/{run_id}/finish")
def finish_run(data: RunFinish, run: RunWriter, session: DbSession) -> RunRead:
    """Say how a run ended and what it left."""
    return service.describe_runs(session, [service.finish_run(session, run.id, **data.model_dump())])[0]


@router.post("/runs/{run_id}/metrics", status_code=204)
def log_metrics(data: MetricsWrite, run: RunWriter, session: DbSession) -> None:
    """Add the values of one step."""
    service.log_metrics(session, run.id, data.step, data.metrics)


@router.get("/runs/{run_id}/metrics")
def get_metric_history(run: RunReader, session: DbSession, query: Annotated[MetricQuery, Query()]) -> MetricHistory:
    """Return what a run logged, in the order of logging."""
    return service.read_history(session, run.id, query)


def _source(principal: Principal) -> dict[str, str]:
    if principal.job_id is not None:
        return {"kind": "training_job", "id": principal.job_id}
    return {"kind": principal.kind, "id": principal.id}
