"""What happens to training jobs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointDropped:
    """A checkpoint is not needed any more; its blob may go."""

    uri: str
