"""Reads back what the model servers counted and wrote down."""

import json
from typing import Any

import redis
from sqlmodel import Session

from ..auth.permissions import Permission
from ..auth.schemas import Principal
from ..deployments import service as deployments
from ..kernel.pagination import Page
from ..kernel.resources import Resources
from ..projects.service import authorize
from ..serving.records import feedback, log
from ..serving.records.metrics import read_metrics
from .exposition import ScrapedEndpoint, endpoint_exposition
from .journals import Place, Record, Wanted, read_page
from .schemas import DeploymentMetrics, FeedbackQuery, FeedbackRecord, InferenceQuery, InferenceRecord


def get_metrics(session: Session, cache: redis.Redis, *, principal: Principal, deployment_id: str) -> DeploymentMetrics:
    """Return the live metrics of a deployment; zeros before the first request.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        CacheUnavailable: If Valkey does not answer.
    """
    deployment = deployments.get_deployment(session, principal=principal, deployment_id=deployment_id)
    metrics = read_metrics(cache, deployment.id)
    return DeploymentMetrics(
        **metrics.model_dump(exclude={"revisions"}), deployment_id=deployment.id, by_revision=metrics.revisions
    )


def get_project_metrics(session: Session, cache: redis.Redis, *, principal: Principal, project_id: str) -> bytes:
    """Return the live metrics of a project's deployments in Prometheus' text format.

    Raises:
        NotFound: If the project does not exist, or not for this principal.
        PermissionDenied: If the principal may not read its deployments.
        CacheUnavailable: If Valkey does not answer.
    """
    project = authorize(session, principal, project_id, Permission.DEPLOYMENT_READ)
    found = deployments.endpoints_in_use(session, project.id)
    return endpoint_exposition(cache, [ScrapedEndpoint(*endpoint) for endpoint in found])


def get_inference_log(
    resources: Resources, *, principal: Principal, deployment_id: str, query: InferenceQuery
) -> Page[InferenceRecord]:
    """Return rows of a deployment's inference log, newest first, as of a few seconds ago.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        PermissionDenied: If the principal may not read logs.
        StoreUnavailable: If the object store does not answer.
    """
    equal = {"revision": query.revision, "status": query.status}
    page = _read(resources, principal, deployment_id, log.FOLDER, query, equal)
    return page.map(InferenceRecord.model_validate)


def get_feedback(
    resources: Resources, *, principal: Principal, deployment_id: str, query: FeedbackQuery
) -> Page[FeedbackRecord]:
    """Return what clients said of a deployment's answers, newest first, as of a few seconds ago.

    Raises:
        DeploymentNotFound: If it does not exist, or not for this principal.
        PermissionDenied: If the principal may not read logs.
        StoreUnavailable: If the object store does not answer.
    """
    return _read(resources, principal, deployment_id, feedback.FOLDER, query, {}).map(_feedback)


def _read(
    resources: Resources,
    principal: Principal,
    deployment_id: str,
    folder: str,
    query: FeedbackQuery,
    equal: dict[str, Any],
) -> Page[Record]:
    with resources.session() as session:
        deployment = deployments.get_deployment(session, principal=principal, deployment_id=deployment_id)
        authorize(session, principal, deployment.project_id, Permission.LOG_READ)
        project_id = deployment.project_id
    equal = {column: value for column, value in {**equal, "request_id": query.request_id}.items() if value is not None}
    before = None if query.cursor is None else Place.read(query.cursor)
    wanted = Wanted(deployment_id, query.since, query.until, equal, before)
    return read_page(resources.store, f"{project_id}/{folder}", wanted, limit=query.limit)


def _feedback(row: Record) -> FeedbackRecord:
    said = {name: None if row[name] is None else json.loads(row[name]) for name in ("label", "value")}
    return FeedbackRecord.model_validate(row | said)
