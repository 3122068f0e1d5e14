"""What an idle `inference` replica holds in memory above a bare replica of Ray Serve on the same cluster.

    python benchmarks/idle_memory.py

Three measures of a process: what is its own alone (USS, what its end would give back), with its part of what it shares
(PSS), and all that it has mapped and is in memory (RSS). The floor is judged by the worst of the three.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import report
from load import BenchmarkFailed
from machine import described
from own_platform import OwnPlatform, running_platform

MEASURES = ("uss", "pss", "rss")
FLOOR_MB, AIM_MB = 60.0, 30.0
BARE = "bare"
# Until what a start leaves behind has settled, and the model server has taken up its background work.
SETTLED_AFTER_S = 20.0


def _run() -> dict[str, Any]:
    with running_platform(demo=False) as platform:
        _deploy_bare(platform)
        time.sleep(SETTLED_AFTER_S)
        found = {"bare": _measured(platform.replica(BARE)), "inference": _measured(platform.replica("inference"))}
        platform.command("demo")
        found["inference, one ONNX model in memory"] = _measured(platform.replica("inference"))
    above = {name: found["inference"][name] - found["bare"][name] for name in MEASURES}
    most = max(above.values())
    judged = {"ratio": most, "floor": FLOOR_MB, "aim": AIM_MB, "met": most <= FLOOR_MB}
    return {"machine": described(), "megabytes": found, "above_mb": above, "judged": judged}


def _deploy_bare(platform: OwnPlatform) -> None:
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(platform.home / "ray" / "token")}
    address = f"127.0.0.1:{platform.environment['RAYMILL_RAY__GCS_PORT']}"
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("bare_replica.py"), address, BARE],
        env=platform.environment | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkFailed(f"The bare app was not deployed: {done.stderr[-1500:]}")


def _measured(process: psutil.Process) -> dict[str, float]:
    held = process.memory_full_info()
    return {name: getattr(held, name) / 1e6 for name in MEASURES}


def _table(document: dict[str, Any]) -> str:
    lines = [f"| MB | {' | '.join(name.upper() for name in MEASURES)} |", "|---|---:|---:|---:|"]
    rows = document["megabytes"] | {"inference above bare": document["above_mb"]}
    lines += [f"| {name} | {' | '.join(f'{held[one]:.0f}' for one in MEASURES)} |" for name, held in rows.items()]
    verdict = report.verdict(document["judged"], least=False)
    return "\n".join([*lines, "", f"MB above bare: {verdict}"])


if __name__ == "__main__":
    report.conclude("idle_memory", _run, _table)
