"""The benchmarks, one after the other; one that misses its floor or fails does not keep the others from running.

    python benchmarks                  all
    python benchmarks predict tail     these

Ends with 1 when a run was not worth anything, else with 2 when a floor was missed.
"""

import subprocess
import sys
import time
from pathlib import Path

#: In this order; each is a script that runs by itself too.
ALL = (
    "predict",
    "tail",
    "tensors",
    "many_endpoints",
    "idle_memory",
    "cold_serverless",
    "dedicated",
    "switch",
    "authentication",
    "grants_memory",
    "control_plane",
)
#: Run when they are named.
MORE = ("soak", "rate_limits")
_OUTCOMES = {0: "every floor met", 2: "a FLOOR MISSED"}


def main() -> None:
    """Run the benchmarks that are named, or all."""
    wanted = sys.argv[1:] or ALL
    if unknown := set(wanted) - {*ALL, *MORE}:
        sys.exit(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join([*ALL, *MORE])}.")
    outcomes = {name: _run(name) for name in wanted}
    print("\n== all")
    for name, (code, seconds) in outcomes.items():
        print(f"{name:16} {_OUTCOMES.get(code, f'FAILED with {code}'):20} {seconds:5.0f} s")
    codes = {code for code, _ in outcomes.values()}
    sys.exit(1 if codes - {0, 2} else max(codes))


def _run(name: str) -> tuple[int, float]:
    print(f"\n== {name}", flush=True)
    begun = time.monotonic()
    done = subprocess.run([sys.executable, Path(__file__).with_name(f"{name}.py")], check=False)
    return done.returncode, time.monotonic() - begun


if __name__ == "__main__":
    main()
