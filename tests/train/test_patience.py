"""A job that starts before its platform: it asks again for a path that is not there yet, and for nothing else."""

import pytest

from raymill.sdk import NotFound, RaymillError, Retries
from raymill.train.patience import once_there

NO_PATH = NotFound("Nothing is served at /api/v1/training-jobs/job_1.")
NO_OBJECT = NotFound("There is no training job job_1.", details={"id": "job_1"})


class Platform:
    """Raises one error after the other, then answers."""

    def __init__(self, *errors: RaymillError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "job"


def ask(platform: Platform, attempts: int = 5) -> tuple[str, list[float]]:
    pauses: list[float] = []
    return once_there(platform, retries=Retries(attempts, first_pause_s=1.0, sleep=pauses.append)), pauses


def test_a_path_that_comes_late_is_asked_for_again() -> None:
    answer, pauses = ask(Platform(NO_PATH, NO_PATH, NO_PATH))
    assert answer == "job"
    assert len(pauses) == 3
    assert sum(pauses) >= 3.5


def test_a_path_that_never_comes_is_given_up() -> None:
    platform = Platform(*[NO_PATH] * 9)
    with pytest.raises(NotFound, match="Nothing is served"):
        ask(platform)
    assert platform.calls == 5


@pytest.mark.parametrize("error", [NO_OBJECT, RaymillError("broken")])
def test_a_missing_object_and_other_errors_are_told_at_once(error: RaymillError) -> None:
    platform = Platform(NO_PATH, error, NO_PATH)
    with pytest.raises(type(error), match=str(error)):
        ask(platform)
    assert platform.calls == 2
