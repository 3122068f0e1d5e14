"""What can go wrong with training jobs."""

from ..kernel.errors import Conflict, NotFound, PermissionDenied, ValidationFailed


class JobNotFound(NotFound):
    """Raised when the job does not exist, or not for this principal."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no training job {job_id}.", details={"id": job_id})


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
