"""One stretch of load on one system: what was answered, and what it cost the system and the machine."""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psutil
from load import Load, Target, drive

COLUMNS = {"requests/s": 0, "p50 ms": 2, "p99 ms": 2, "CPU s per 1,000": 3}
# Above this the systems did not have the machine to themselves; the platform's idle background work counts too.
BUSY_CPUS = 0.4


@dataclass(frozen=True)
class System:
    """A system under load, and the processes that do its work."""

    name: str
    version: str
    target: Target
    processes: Callable[[], list[psutil.Process]]


@dataclass(frozen=True)
class Round:
    """One stretch of load on one system; ``other_cpus`` is what the rest of the machine used meanwhile, wrk aside."""

    system: str
    load: Load
    cpu_s: float
    other_cpus: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.load.requests / self.load.seconds

    def figures(self) -> dict[str, float]:
        """Return the figures by the name of their column."""
        cpu = 1000 * self.cpu_s / self.load.requests
        return dict(zip(COLUMNS, (self.rate, self.load.p50_ms, self.load.p99_ms, cpu), strict=True))


def ratios(of: Sequence[Round], to: Sequence[Round]) -> list[float]:
    """Return how many times the requests of one system another answered, round by round, least first."""
    return sorted(one.rate / other.rate for one, other in zip(of, to, strict=True))


def measure(system: System, seconds: int) -> Round:
    """Load a system for some seconds and count what it used."""
    with used_cpus(system.processes()) as used:
        load = drive(system.target, seconds)
    return Round(system.name, load, used.seconds, used.others)


@dataclass
class Used:
    """CPU seconds of a system's processes, and the CPUs that all others used but for the load's and this process."""

    seconds: float = 0.0
    others: float = 0.0


@contextmanager
def used_cpus(processes: list[psutil.Process]) -> Iterator[Used]:
    """Count what is used while the block runs."""
    used, begun = Used(), time.monotonic()
    before, machine, own = [_cpu_s(process) for process in processes], _machine_cpu_s(), _own_cpu_s()
    yield used
    used.seconds = sum(_cpu_s(process) - start for process, start in zip(processes, before, strict=True))
    others = _machine_cpu_s() - machine - used.seconds - (_own_cpu_s() - own)
    used.others = max(others, 0.0) / (time.monotonic() - begun)


def alternate(systems: list[System], *, rounds: int, seconds: int) -> list[Round]:
    """Load each system in each round, in another order each time, and tell of it."""
    measured = []
    for number in range(rounds):
        first = number % len(systems)
        for system in systems[first:] + systems[:first]:
            measured.append(measure(system, seconds))
            rate = measured[-1].figures()["requests/s"]
            print(f"round {number + 1} of {rounds}  {system.name:28} {rate:8,.0f} requests/s", flush=True)
    return measured


def spread(rounds: list[Round]) -> dict[str, dict[str, float]]:
    """Return median, least and most of each column."""
    figures = [one.figures() for one in rounds]
    columns = {column: [one[column] for one in figures] for column in COLUMNS}
    return {
        column: {"median": median(values), "least": min(values), "most": max(values)}
        for column, values in columns.items()
    }


def cells(found: dict[str, dict[str, float]]) -> str:
    """Return a spread as the cells of a row in a Markdown table."""
    return " | ".join(_cell(found[column], digits) for column, digits in COLUMNS.items())


def heading(*more: str) -> list[str]:
    """Return the head of a table of spreads."""
    names = ["", *COLUMNS, *more]
    return ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]


def company(others: list[float]) -> list[str]:
    """Say how much else the machine did during the rounds, and whether that spoils them."""
    lines = [f"everything else on the machine used {median(others):.2f} CPUs, at most {max(others):.2f}"]
    if median(others) > BUSY_CPUS:
        lines.append("The machine was busy with something else: these figures say little.")
    return lines


def _cell(figure: dict[str, float], digits: int) -> str:
    middle, least, most = (f"{figure[name]:,.{digits}f}" for name in ("median", "least", "most"))
    return f"{middle} ({least} to {most})"


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _own_cpu_s() -> float:
    spent = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
