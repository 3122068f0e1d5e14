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


class KeysNotUsable(ValidationFailed):
    """Raised when an access policy names keys that could never invoke the endpoint."""

    def __init__(self, key_ids: list[str]) -> None:
        super().__init__(
            "An access policy can name living API keys of the project that hold endpoint:invoke and are not bound to "
            f"another endpoint; these are none: {', '.join(key_ids)}.",
            details={"keys": key_ids},
        )


class ScalingNotApplicable(ValidationFailed):
    """Raised when a client wants to set the replicas of a deployment that shares the pool."""

    def __init__(self) -> None:
        super().__init__(
            "A serverless deployment has no replicas of its own: every model server of the shared pool answers for it, "
            "and the pool scales with the load of all deployments.",
        )
