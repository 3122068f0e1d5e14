"""What can go wrong with experiments and runs."""

from ..kernel.errors import Conflict, NotFound


class ExperimentNotFound(NotFound):
    """Raised when the experiment does not exist, or not for this principal."""

    def __init__(self, experiment_id: str) -> None:
        super().__init__(f"There is no experiment {experiment_id}.", details={"id": experiment_id})


class ExperimentNameTaken(Conflict):
    """Raised when another experiment of the project has the name."""


class RunNotFound(NotFound):
    """Raised when the run does not exist, or not for this principal."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id}.", details={"id": run_id})


class RunInUse(Conflict):
    """Raised when something that is kept, such as a training job, refers to the run."""
