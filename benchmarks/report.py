"""What the rounds say: medians, spreads, the floors, as a table and as JSON."""

import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from load import CONNECTIONS, Load

FLOORS = {"litserve": 2.0, "fastapi": 0.7}
# Above this the systems did not have the machine to themselves; the platform's idle background work counts too.
BUSY_CPUS = 0.4
_COLUMNS = {"requests/s": 0, "p50 ms": 2, "p99 ms": 2, "CPU s per 1,000": 3}


@dataclass(frozen=True)
class Round:
    """One stretch of load on one system; ``other_cpus`` is what the rest of the machine used meanwhile, wrk aside."""

    system: str
    load: Load
    cpu_s: float
    other_cpus: float

    def figures(self) -> dict[str, float]:
        """Return the figures by the name of their column."""
        rate, cpu = self.load.requests / self.load.seconds, 1000 * self.cpu_s / self.load.requests
        return dict(zip(_COLUMNS, (rate, self.load.p50_ms, self.load.p99_ms, cpu), strict=True))


def summary(rounds: list[Round], versions: dict[str, str]) -> dict[str, Any]:
    """Return everything that is worth keeping as a JSON document."""
    systems = list(dict.fromkeys(one.system for one in rounds))
    found = {system: _spread([one.figures() for one in rounds if one.system == system]) for system in systems}
    rates = {system: found[system]["requests/s"]["median"] for system in systems}
    others = [one.other_cpus for one in rounds]
    ratios = {other: rates["raymill"] / rates[other] for other in FLOORS}
    floors = {
        other: {"ratio": ratios[other], "floor": floor, "met": ratios[other] >= floor}
        for other, floor in FLOORS.items()
    }
    machine = {
        "cpus": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": versions,
        "connections": CONNECTIONS,
        "systems": found,
        "other_cpus": {"median": median(others), "most": max(others)},
        "floors": floors,
        "rounds": [asdict(one) for one in rounds],
    }


def table(document: dict[str, Any]) -> str:
    """Return the summary as a Markdown table: the median, and the least and most of the rounds."""
    lines = [f"| | {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * len(_COLUMNS)}"]
    for system, figures in document["systems"].items():
        cells = [_cell(figures[column], digits) for column, digits in _COLUMNS.items()]
        lines.append(f"| {system} {document['versions'][system]} | {' | '.join(cells)} |")
    lines.append("")
    for other, judged in document["floors"].items():
        verdict = "met" if judged["met"] else "MISSED"
        lines.append(f"raymill / {other}: {judged['ratio']:.2f}, floor {judged['floor']}: {verdict}")
    kept = document["kept"]
    lines.append(f"raymill's metrics count {kept['counted_by_metrics']:,} of {kept['sent']:,} requests that were sent")
    lines.append(f"raymill's log has {kept['rows_in_log']:,} rows of {kept['sent']:,}")
    others = document["other_cpus"]
    lines.append(f"everything else on the machine used {others['median']:.2f} CPUs, at most {others['most']:.2f}")
    if others["median"] > BUSY_CPUS:
        lines.append("The machine was busy with something else: these figures say little.")
    return "\n".join(lines)


def write(document: dict[str, Any], folder: Path) -> None:
    """Write ``predict.json`` and ``predict.md``, which git passes over."""
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    (folder / "predict.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "predict.md").write_text(table(document) + "\n")


def _spread(figures: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    columns = {column: [one[column] for one in figures] for column in _COLUMNS}
    return {
        column: {"median": median(values), "least": min(values), "most": max(values)}
        for column, values in columns.items()
    }


def _cell(figure: dict[str, float], digits: int) -> str:
    middle, least, most = (f"{figure[name]:,.{digits}f}" for name in ("median", "least", "most"))
    return f"{middle} ({least} to {most})"
