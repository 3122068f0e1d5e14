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


class RevisionNotReady(Conflict):
    """Raised when traffic is wanted for a revision that is not there, is being warmed, or failed."""

    def __init__(self, number: str | None, status: str | None) -> None:
        what = f"revision {number} is {status}" if status else f"there is no revision {number}"
        super().__init__(
            f"Only ready revisions can have traffic: {what if number else 'none is ready'}.",
            details={"revision": number, "status": status},
        )


class NothingToRollBackTo(Conflict):
    """Raised when no other ready revision of the deployment ever had all the traffic."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            "No other ready revision had all the traffic before; promote one, or set the traffic.",
            details={"id": deployment_id},
        )


class NothingToStart(Conflict):
    """Raised when a deployment is to be started and none of its revisions is to have traffic."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(
            "No revision of the deployment is to have traffic; update it to another model version, or promote one.",
            details={"id": deployment_id},
        )


class KeysNotUsable(ValidationFailed):
    """Raised when an access policy names keys that could never invoke the endpoint."""

    def __init__(self, key_ids: list[str]) -> None:
        super().__init__(
            "An access policy can name living API keys of the project that hold endpoint:invoke and are not bound to "
            f"another endpoint; these are none: {', '.join(key_ids)}.",
            details={"keys": key_ids},
        )


class BoundsCrossed(ValidationFailed):
    """Raised when a deployment would have more replicas at least than at most."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__(
            f"min_replicas must not exceed max_replicas; they would be {least} and {most}: set both.",
            details={"min_replicas": least, "max_replicas": most},
        )


class BatchingNotApplicable(ValidationFailed):
    """Raised when a client wants the requests of a deployment with replicas of its own to be batched."""

    def __init__(self) -> None:
        super().__init__(
            "A dedicated deployment runs each request by itself; batching is for the serverless tier.",
        )


class ScalingNotApplicable(ValidationFailed):
    """Raised when a client wants to set the replicas of a deployment that shares the pool."""

    def __init__(self) -> None:
        super().__init__(
            "A serverless deployment has no replicas of its own: every model server of the shared pool answers for it, "
            "and the pool scales with the load of all deployments.",
        )
