"""When states are stored, and that storing them never holds up the training."""

import threading

from raymill.train.checkpoint_writer import CheckpointWriter
from timing import Clock


def wait_until_idle() -> None:
    """Wait until nothing is being stored."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(5)


def test_states_are_stored_at_most_once_in_the_interval() -> None:
    clock, kept = Clock(), list[int]()
    writer = CheckpointWriter(lambda epoch, _: kept.append(epoch), every_s=10.0, monotonic=clock)
    for epoch in range(1, 31):
        clock.now = float(epoch)
        writer.offer(epoch, lambda: b"state")
        wait_until_idle()
    assert kept == [10, 20, 30]


def test_a_slow_store_holds_nothing_up_and_is_asked_less_often() -> None:
    clock, release, kept = Clock(), threading.Event(), list[int]()

    def upload(epoch: int, _: bytes) -> None:
        release.wait(10)
        clock.now += 5.0
        kept.append(epoch)

    writer = CheckpointWriter(upload, every_s=1.0, monotonic=clock)
    clock.now = 1.0
    writer.offer(1, lambda: b"state")
    writer.offer(2, lambda: b"state")
    assert kept == []
    release.set()
    wait_until_idle()
    for clock.now in (10.0, 55.0):
        writer.offer(3, lambda: b"state")
        assert kept == [1]
    clock.now = 56.5
    writer.offer(4, lambda: b"state")
    wait_until_idle()
    assert kept == [1, 4]


def test_a_state_that_comes_too_early_is_not_even_made() -> None:
    made = []
    CheckpointWriter(lambda *_: None, every_s=100.0).offer(1, lambda: made.append(1) or b"")
    assert made == []
