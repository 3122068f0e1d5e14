"""Precedence of the data plane, in a process of its own: niceness cannot be taken back without rights."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, threading
from pathlib import Path
from raymill.compute.precedence import take_precedence
end = threading.Event()
os.nice(15 - os.nice(0))
threading.Thread(target=end.wait).start()
if {drop}:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
lifted = take_precedence()
print(lifted, {{os.getpriority(os.PRIO_PROCESS, int(one.name)) for one in Path("/proc/self/task").iterdir()}})
end.set()
"""


def told(*, drop: bool) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(drop=drop)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="needs root on Linux")
def test_all_threads_are_lifted_where_the_system_permits_it() -> None:
    assert told(drop=False) == "True {0}"


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="needs root on Linux")
def test_without_rights_nothing_changes() -> None:
    assert told(drop=True) == "False {15}"
