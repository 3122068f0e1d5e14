"""Passwords are hashed in their turn."""

import os
from threading import Event, Lock, Semaphore

import anyio
from anyio.to_thread import run_sync

from raymill.auth.hashing import in_turn

CORES = max(2, os.cpu_count() or 2)


def test_many_logins_run_a_few_at_once_and_leave_threads_to_others() -> None:
    lock, may_end, begun = Lock(), Event(), Semaphore(0)
    running = most = done = 0

    @in_turn
    def log_in() -> None:
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        begun.release()
        assert may_end.wait(10)
        with lock:
            running, done = running - 1, done + 1

    async def crowd() -> None:
        async with anyio.create_task_group() as logins:
            for _ in range(200):
                logins.start_soon(log_in)
            for _ in range(CORES):
                await run_sync(begun.acquire)
            with anyio.fail_after(10):
                assert await run_sync(lambda: "answered") == "answered"
            may_end.set()

    anyio.run(crowd)
    assert (most, done) == (CORES, 200)
