"""What clients read about how a deployment does."""

from ..serving.metrics import RevisionMetrics


class DeploymentMetrics(RevisionMetrics):
    """Requests, errors and latency since the deployment was made, in all and by revision number."""

    deployment_id: str
    by_revision: dict[str, RevisionMetrics]
