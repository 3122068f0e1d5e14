"""What follows from an event, in every process that delivers some: the api and the controller."""

from ..auth import keys
from ..deployments import publisher
from ..kernel.resources import Resources
from ..projects import group_teams
from ..train import checkpoints


def subscribe(resources: Resources) -> None:
    """Let each slice do, in this process, what follows from the events that it waits for."""
    for part in (keys, publisher, checkpoints, group_teams):
        part.subscribe(resources)
