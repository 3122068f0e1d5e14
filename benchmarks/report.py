"""What the rounds of the main benchmark say: medians, spreads, the floors, as a table and as JSON."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from load import CONNECTIONS
from machine import described
from rounds import Round, cells, company, heading, spread

FLOORS = {"litserve": 2.0, "fastapi": 0.7}


def summary(rounds: list[Round], versions: dict[str, str]) -> dict[str, Any]:
    """Return everything that is worth keeping as a JSON document."""
    systems = list(dict.fromkeys(one.system for one in rounds))
    found = {system: spread([one for one in rounds if one.system == system]) for system in systems}
    rates = {system: found[system]["requests/s"]["median"] for system in systems}
    ratios = {other: rates["raymill"] / rates[other] for other in FLOORS}
    floors = {
        other: {"ratio": ratios[other], "floor": floor, "met": ratios[other] >= floor}
        for other, floor in FLOORS.items()
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


def table(document: dict[str, Any]) -> str:
    """Return the summary as a Markdown table: the median, and the least and most of the rounds."""
    lines = heading()
    for system, figures in document["systems"].items():
        lines.append(f"| {system} {document['versions'][system]} | {cells(figures)} |")
    lines.append("")
    for other, judged in document["floors"].items():
        verdict = "met" if judged["met"] else "MISSED"
        lines.append(f"raymill / {other}: {judged['ratio']:.2f}, floor {judged['floor']}: {verdict}")
    kept = document["kept"]
    lines.append(f"raymill's metrics count {kept['counted_by_metrics']:,} of {kept['sent']:,} requests that were sent")
    lines.append(f"raymill's log has {kept['rows_in_log']:,} rows of {kept['sent']:,}")
    return "\n".join([*lines, *company([one["other_cpus"] for one in document["rounds"]])])
