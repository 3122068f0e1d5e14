"""The machine that a benchmark ran on, and where its figures are written."""

import json
import platform
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"


def described() -> dict[str, Any]:
    """Return what a reader of the figures must know of the machine."""
    return {
        "cpus": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def write(name: str, document: dict[str, Any], table: str) -> None:
    """Print the table, and write it and the figures to ``results/``, which git passes over."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(table + "\n")
    print(f"\n{table}\n\nwritten to {RESULTS.relative_to(RESULTS.parents[1])}/", flush=True)
