"""What must survive under load, for ten minutes each: the end-to-end tests of static stability, over and over.

    python benchmarks/soak.py [--seconds 600] [-k haproxy]

Brings a platform of its own up, with two inference replicas, and loads it with 200 predictions a second, open loop.
Ends with 1 when a prediction failed that must not, or a part did not recover.
"""

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from machine import described, write

TESTS = Path(__file__).parents[1] / "tests" / "e2e" / "test_static_stability.py"
SECONDS = 600.0
# For the platform to come up, and for the last repetition to end.
SLACK_S = 600.0


class Soak:
    """Tells the tests how long they go on, and keeps what they tell."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.rows: list[dict[str, Any]] = []

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        """Name the option that the tests ask for."""
        parser.addoption("--soak", type=float, default=self.seconds, help="seconds that each test goes on")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Give each test the time that it needs."""
        for item in items:
            item.add_marker(pytest.mark.timeout(self.seconds + SLACK_S), append=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep how a test ended and what it told of its load."""
        if report.when != "call" and report.passed:
            return
        told = dict(report.user_properties)
        row = {"what": report.location[2], "outcome": report.outcome, "seconds": report.duration}
        self.rows.append(row | {"said": told.get("recovery", ""), "load": told.get("load", {})})
        print(f"\n{time.strftime('%H:%M:%S')} {row['what']}: {row['outcome']}", flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Return what was seen as a Markdown table, and each test's own words below it."""
    lines = ["| | minutes | predictions | failed | p50 ms | p99 ms | |", "|---|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        load = row["load"]
        counts = [f"{load[name]:,}" if load else "" for name in ("requests", "failed")]
        latencies = [f"{load[name]:.1f}" if load else "" for name in ("p50 ms", "p99 ms")]
        cells = [row["what"], f"{row['seconds'] / 60:.1f}", *counts, *latencies, row["outcome"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(row["said"] for row in rows if row["said"])])


def main() -> None:
    """Run the soak; exit with 1 when a test failed."""
    parser = argparse.ArgumentParser(description="Kill parts of a platform under load, for long.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each test goes on")
    parser.add_argument("-k", default="", help="which of them, as for pytest")
    given = parser.parse_args()
    soak, begun = Soak(given.seconds), datetime.now(UTC)
    options = ["-q", "-s", "--tb=short", "-p", "no:cacheprovider", *(["-k", given.k] if given.k else []), str(TESTS)]
    ended = pytest.main(options, plugins=[soak])
    document = {
        "at": begun.isoformat(timespec="seconds"),
        "machine": described() | {"load": os.getloadavg()},
        "seconds": given.seconds,
        "tests": soak.rows,
    }
    write("soak", document, table(soak.rows))
    sys.exit(0 if ended == pytest.ExitCode.OK else 1)


if __name__ == "__main__":
    main()
