"""What happens to deployments."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DeploymentChanged:
    """A deployment was made, changed or deleted; its endpoint answers other than before."""

    deployment_id: str
    project_id: str
    endpoint_key: str
