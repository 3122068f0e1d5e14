"""Reads back what the model servers counted."""

import redis
from sqlmodel import Session

from ..auth.schemas import Principal
from ..deployments import service as deployments
from ..serving.metrics import read_metrics
from .schemas import DeploymentMetrics


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
