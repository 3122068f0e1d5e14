"""What happens to deployments."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DeploymentChanged:
    """A deployment was made or has a new revision."""

    deployment_id: str


@dataclass(frozen=True)
class DeploymentDeleted:
    """A deployment is gone; its endpoint must answer 404."""

    deployment_id: str
    project_id: str
