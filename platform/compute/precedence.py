"""Who goes first where the processors are short: what answers predictions, before what trains."""

import os
from pathlib import Path

_THREADS = Path("/proc/self/task")


def take_precedence() -> bool:
    """Lift this process from the niceness 15 that Ray gives its workers to that of ordinary programs.

    Plain standard library, for the launcher of HAProxy calls it too. Returns whether the system permits it, which it
    does for root and with CAP_SYS_NICE.
    """
    # Linux counts per thread; those that are started later are as their parent is.
    threads = [int(thread.name) for thread in _THREADS.iterdir()] if _THREADS.exists() else [0]
    try:
        for thread in threads:
            os.setpriority(os.PRIO_PROCESS, thread, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        # A thread has ended meanwhile: look again.
        return take_precedence()
    return True


__all__ = ["take_precedence"]
