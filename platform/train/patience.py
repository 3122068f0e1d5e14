"""How a job waits for the platform that it reports to, which may come up after it."""

from collections.abc import Callable
from typing import TypeVar

from ..sdk import NotFound, Retries

__all__ = ["PATIENT", "once_there"]

Answer = TypeVar("Answer")

#: How a job's client tries; together these pauses last about a minute.
PATIENT = Retries(attempts=12, first_pause_s=0.3)


def once_there(ask: Callable[[], Answer], *, retries: Retries = PATIENT) -> Answer:
    """Return what ``ask`` returns, asking again while the path itself is not there.

    Of a platform that is coming up, the app at ``/`` answers first, and for the paths of the others it says 404. What
    tells that from an object that is missing is that no object is named in the details.

    Raises:
        NotFound: If the object is missing, or the path still is after the last attempt.
    """
    for attempt in range(1, retries.attempts):
        try:
            return ask()
        except NotFound as error:
            if error.details:
                raise
            retries.pause(attempt, error.retry_after_s)
    return ask()
