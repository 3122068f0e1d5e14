"""Runs the controller's steps, each in its own thread, while their leases are held.

A step that raises is logged and tried again, later each time; nothing that a step does ends its thread.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread

import structlog

from ..kernel.db import DatabaseUnavailable
from ..kernel.errors import InternalError, RaymillError
from .leases import LeaseKeeper

log = structlog.get_logger("raymill.controller")


class ControllerStalled(InternalError):
    """Raised by the health check when a loop died or hangs."""


@dataclass(frozen=True)
class Step:
    """One thing the controller does again and again, under a lease if it names one."""

    name: str
    lease: str | None
    run: Callable[[], object]
    every_s: float
    # A step that takes longer than this is taken for hung, and the controller for sick.
    limit_s: float = 30.0
    # After failures; short enough that recovery after an outage is prompt.
    longest_pause_s: float = 5.0


@dataclass
class Loop:
    """A step's thread and the last moment at which it showed life."""

    step: Step
    tick: float = field(default_factory=time.monotonic)
    thread: Thread = field(default_factory=Thread)


class Scheduler:
    """The loops of one controller process: one that renews the leases, one for each step."""

    def __init__(self, steps: Sequence[Step], keeper: LeaseKeeper) -> None:
        self._steps = steps
        self._keeper = keeper
        self._stopping = Event()
        self._loops: list[Loop] = []

    def start(self) -> None:
        """Start every loop as a daemon thread."""
        renew_every_s = self._keeper.life_s / 4
        self._spawn(Step("leases", None, self._keeper.renew, renew_every_s, longest_pause_s=renew_every_s))
        for step in self._steps:
            self._spawn(step)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the loops to end, wait for them a while, and let go of the leases."""
        self._stopping.set()
        deadline = time.monotonic() + timeout_s
        for loop in self._loops:
            loop.thread.join(max(0.0, deadline - time.monotonic()))
        # A step that still runs keeps its lease, so that no other controller acts beside it.
        if not any(loop.thread.is_alive() for loop in self._loops):
            self._release()

    def check(self) -> None:
        """Tell that every loop lives.

        Raises:
            ControllerStalled: If a loop ended or showed no life for as long as it may take.
        """
        now = time.monotonic()
        for loop in self._loops:
            if not loop.thread.is_alive():
                raise ControllerStalled(f"The controller's loop {loop.step.name!r} has ended.")
            if now - loop.tick > loop.step.limit_s:
                raise ControllerStalled(f"The controller's loop {loop.step.name!r} hangs for {now - loop.tick:.0f} s.")

    def _spawn(self, step: Step) -> None:
        loop = Loop(step)
        loop.thread = Thread(name=f"controller-{step.name}", daemon=True, target=self._repeat, args=(loop,))
        self._loops.append(loop)
        loop.thread.start()

    def _repeat(self, loop: Loop) -> None:
        failures = 0
        while not self._stopping.is_set():
            if not self._may_run(loop.step):
                self._pause(loop, min(loop.step.every_s, self._keeper.life_s / 4))
            elif _attempt(loop.step):
                failures = 0
                self._pause(loop, loop.step.every_s)
            else:
                failures += 1
                self._pause(loop, min(0.5 * 2 ** min(failures, 10), loop.step.longest_pause_s))

    def _may_run(self, step: Step) -> bool:
        return step.lease is None or self._keeper.token(step.lease) is not None

    def _pause(self, loop: Loop, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.is_set():
            loop.tick = time.monotonic()
            self._stopping.wait(min(left, 1.0))
        loop.tick = time.monotonic()

    def _release(self) -> None:
        try:
            self._keeper.release()
        except DatabaseUnavailable:
            log.warning("leases_not_released")


def _attempt(step: Step) -> bool:
    try:
        step.run()
    except RaymillError as error:
        log.warning("step_failed", step=step.name, error=error.message)
        return False
    except Exception:
        log.exception("step_failed", step=step.name)
        return False
    return True
