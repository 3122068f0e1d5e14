"""What can go wrong with deployments."""

from ..kernel.errors import Conflict, NotFound, ValidationFailed


class DeploymentNotFound(NotFound):
    """Raised when the deployment does not exist for this principal."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"There is no deployment {deployment_id}.", details={"id": deployment_id})


class DeploymentExists(Conflict):
    """Raised when the project already serves something under this name in this environment."""

    def __init__(self, name: str, environment: str) -> None:
        super().__init__(
            f"The project already has a {environment} deployment named {name!r}: update it, or choose another name.",
            details={"name": name, "environment": environment},
        )


class TierUnavailable(ValidationFailed):
    """Raised when a deployment asks for a tier that this platform does not offer."""

    def __init__(self, tier: str) -> None:
        super().__init__(
            f"This platform does not offer the {tier} tier yet; use 'serverless' or 'auto'.", details={"tier": tier}
        )


class ScalingNotApplicable(ValidationFailed):
    """Raised when a client wants to set the replicas of a deployment that shares the pool."""

    def __init__(self) -> None:
        super().__init__(
            "A serverless deployment has no replicas of its own: every model server of the shared pool answers for it, "
            "and the pool scales with the load of all deployments.",
        )
