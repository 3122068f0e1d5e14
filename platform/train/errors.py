"""What can go wrong with training jobs."""

from ..kernel.errors import Conflict, NotFound, PermissionDenied, ValidationFailed


class JobNotFound(NotFound):
    """Raised when the job does not exist, or not for this principal."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no training job {job_id}.", details={"id": job_id})


class CheckpointNotFound(NotFound):
    """Raised when the job has no checkpoint."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"The training job {job_id} has no checkpoint.", details={"id": job_id})


class JobNotEnded(Conflict):
    """Raised when a job that still runs is deleted."""


class JobEnded(Conflict):
    """Raised when a job that has ended is cancelled."""


class NotThisJob(PermissionDenied):
    """Raised when somebody else than the running job reports its progress."""


class UnknownTrainer(ValidationFailed):
    """Raised when no trainer has this name, or not for this framework."""


class InvalidHyperparameters(ValidationFailed):
    """Raised when the trainer does not take these hyperparameters."""


class UnsuitableDataset(ValidationFailed):
    """Raised when the trainer cannot learn from this dataset; the message names the column."""


class ResourcesExceedCluster(ValidationFailed):
    """Raised when a job asks for more than the cluster can ever give."""


class EnvironmentRefused(ValidationFailed):
    """Raised when a program's runtime environment holds what a project may not set."""

    def __init__(self, field: str, advice: str) -> None:
        super().__init__(f"The runtime environment may not set {field} like this. {advice}", details={"field": field})


class BadPackageName(ValidationFailed):
    """Raised when a package is not named as Ray's client names them."""


class PackageNotFound(NotFound):
    """Raised when the project has no package of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no package {name}; upload it first.", details={"name": name})


class SubmissionIdTaken(Conflict):
    """Raised when the project has a job of that submission id."""

    def __init__(self, submission_id: str) -> None:
        super().__init__(
            f"A job with the submission id {submission_id!r} exists already; choose another.",
            details={"submission_id": submission_id},
        )


class BadSubmission(ValidationFailed):
    """Raised when a program asks for something that a project may not have; the message names it."""
