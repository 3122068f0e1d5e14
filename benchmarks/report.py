"""What the rounds of the main benchmark say: medians, spreads, the floors, as a table and as JSON."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from load import CONNECTIONS, BenchmarkFailed
from machine import described, write
from rounds import Round, cells, company, heading, spread
from scene import OWN

#: How many times the requests of another system the platform must answer; the last one is the best of the others.
FLOORS = {"fastapi": 0.8, "best": 3.0}
AIMS = {"fastapi": 1.1, "best": 4.0}


def summary(rounds: list[Round], versions: dict[str, str]) -> dict[str, Any]:
    """Return everything that is worth keeping as a JSON document."""
    systems = list(dict.fromkeys(one.system for one in rounds))
    found = {system: spread([one for one in rounds if one.system == system]) for system in systems}
    rates = {system: found[system]["requests/s"]["median"] for system in systems}
    best = max((system for system in systems if system not in (OWN, "fastapi")), key=rates.__getitem__)
    floors = {
        other: judged(rates[OWN] / rates[system], floor, AIMS[other]) | {"system": system}
        for (other, floor), system in zip(FLOORS.items(), ("fastapi", best), strict=True)
    }
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": described(),
        "versions": versions,
        "connections": CONNECTIONS,
        "systems": found,
        "floors": floors,
        "rounds": [asdict(one) for one in rounds],
    }


def conclude(name: str, measure: Callable[[], dict[str, Any]], told: Callable[[dict[str, Any]], str]) -> None:
    """Run a benchmark of one floor; exit with 1 when it is not worth anything, with 2 when the floor is missed."""
    try:
        document = measure()
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    write(name, document, told(document))
    if not document["judged"]["met"]:
        sys.exit(2)


def judged(ratio: float, floor: float, aim: float) -> dict[str, Any]:
    return {"ratio": ratio, "floor": floor, "aim": aim, "met": ratio >= floor}


def verdict(judged: dict[str, Any], *, least: bool = True) -> str:
    """Say how a figure stands to its floor and its aim; where less is better, ``least`` is false."""
    reached = judged["ratio"] >= judged["aim"] if least else judged["ratio"] <= judged["aim"]
    said = "MISSED" if not judged["met"] else "aim met" if reached else "met"
    return f"{judged['ratio']:.2f}, floor {judged['floor']:g}, aim {judged['aim']:g}: {said}"


def table(document: dict[str, Any]) -> str:
    """Return the summary as a Markdown table: the median, and the least and most of the rounds."""
    lines = heading()
    for system, figures in document["systems"].items():
        lines.append(f"| {system} {document['versions'][system]} | {cells(figures)} |")
    lines.append("")
    for judged in document["floors"].values():
        lines.append(f"{OWN} / {judged['system']}: {verdict(judged)}")
    kept = document["kept"]
    lines.append(f"raymill's metrics count {kept['counted_by_metrics']:,} of {kept['sent']:,} requests that were sent")
    lines.append(f"raymill's log has {kept['rows_in_log']:,} rows of {kept['sent']:,}")
    return "\n".join([*lines, *company([one["other_cpus"] for one in document["rounds"]])])
