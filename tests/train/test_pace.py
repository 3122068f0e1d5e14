"""When the log of a running job is looked at, on a clock that the test moves."""

from raymill.train.pace import LogPace
from timing import Clock


def looks(lengths: list[int], *, seconds: int) -> list[int]:
    """Sweep once a second over a log that has these lengths, the last one for ever, and return when it was read."""
    clock = Clock()
    pace, read = LogPace(clock), []
    for second in range(seconds):
        clock.now = float(second)
        if pace.is_due("job"):
            read.append(second)
            pace.looked("job", lengths[min(second, len(lengths) - 1)])
    return read


def test_a_log_that_grows_is_read_at_each_sweep() -> None:
    assert looks(list(range(100)), seconds=5) == [0, 1, 2, 3, 4]


def test_a_quiet_log_is_read_less_and_less_often() -> None:
    assert looks([10], seconds=40) == [0, 1, 2, 4, 8, 16, 24, 32]


def test_a_quiet_log_that_grows_again_is_read_often_again() -> None:
    lengths = [10] * 10 + list(range(11, 40))
    assert looks(lengths, seconds=20)[-3:] == [17, 18, 19]


def test_a_long_log_is_read_the_less_often_the_longer_it_is() -> None:
    growing = [20_000_000 + second for second in range(100)]
    assert looks(growing, seconds=31) == [0, 10, 21]
    assert len(looks([length * 100 for length in growing], seconds=61)) == 3


def test_a_forgotten_log_is_read_at_once() -> None:
    pace = LogPace(Clock())
    pace.looked("job", 1)
    assert not pace.is_due("job")
    pace.forget("job")
    assert pace.is_due("job")
