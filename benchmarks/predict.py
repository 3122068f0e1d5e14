"""Predictions per second of the users' own URL, beside FastAPI on uvicorn, LitServe, BentoML and MLflow.

All serve the same model and run at the same time on this machine; they are loaded one after the other, in each round in
another order.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import report
from load import BenchmarkFailed, Target, drive, require_wrk
from machine import write
from own_platform import logged_rows
from rounds import System, alternate
from scene import OWN, running_scene

ROUNDS = 5
LOAD_S = 6
WARM_UP_S = 2
TOLERANCE = 1e-5
# The model server writes its log every 5 s.
COUNTED_WITHIN_S = 8.0

#: Model servers from PyPI, and the path that answers predictions.
OTHERS = {"litserve": "/predict", "bentoml": "/predict", "mlflow": "/invocations"}

Counter = Callable[[], int]


def main() -> None:
    """Run the benchmark; exit with 1 when it is not worth anything, with 2 when a floor is missed."""
    try:
        document = _run()
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    write("predict", document, report.table(document))
    if not all(floor["met"] for floor in document["floors"].values()):
        sys.exit(2)


def _run() -> dict[str, object]:
    require_wrk()
    with ExitStack() as stack:
        scene = stack.enter_context(running_scene())
        client, deployment = scene.client, scene.deployment
        systems = [stack.enter_context(scene.fastapi()), scene.own()]
        systems += [stack.enter_context(scene.other(package, path)) for package, path in OTHERS.items()]
        _compare_answers(systems)
        counts = {
            "counted_by_metrics": lambda: client.deployments.metrics(deployment.id)["requests"],
            "rows_in_log": lambda: logged_rows(scene.platform, deployment.project_id),
        }
        warm_up = _settled(counts, _warm_up(systems))
        rounds = alternate(systems, rounds=ROUNDS, seconds=LOAD_S)
        sent = sum(one.load.requests for one in rounds if one.system == OWN)
        kept = _settled(counts, sent, warm_up) | {"sent": sent}
    if kept["counted_by_metrics"] < sent:
        raise BenchmarkFailed(f"The platform's metrics count {kept['counted_by_metrics']} requests of {sent}.")
    return report.summary(rounds, {system.name: system.version for system in systems}) | {"kept": kept}


def _compare_answers(systems: list[System]) -> None:
    answers = {system.name: _ask(system.target) for system in systems}
    first = answers[systems[0].name]
    for name, answer in answers.items():
        if len(answer) != len(first) or any(abs(a - b) > TOLERANCE for a, b in zip(answer, first, strict=True)):
            raise BenchmarkFailed(f"{name} answers {answer}, and {systems[0].name} answers {first}.")


def _ask(target: Target) -> list[float]:
    headers = {"Content-Type": "application/json"}
    if credential := target.credential.read_text():
        headers["Authorization"] = credential
    answer = httpx.post(target.url, content=target.body.read_bytes(), headers=headers)
    if answer.status_code != 200:
        raise BenchmarkFailed(f"{target.url} answers {answer.status_code}: {answer.text[:500]}")
    found: Any = answer.json()["predictions"]
    # MLflow names the model's only output.
    ((*row,),) = next(iter(found.values())) if isinstance(found, dict) else found
    return row


def _warm_up(systems: list[System]) -> int:
    """Load each system for a moment; return how many requests the platform had."""
    return {system.name: drive(system.target, WARM_UP_S).requests for system in systems}[OWN]


def _settled(counts: dict[str, Counter], expected: int, before: dict[str, int] | None = None) -> dict[str, int]:
    """Return what the platform counted since ``before``, when it has counted all or has had the time for it."""
    deadline = time.monotonic() + COUNTED_WITHIN_S
    while True:
        found = {name: count() - (before or {}).get(name, 0) for name, count in counts.items()}
        if min(found.values()) >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


if __name__ == "__main__":
    main()
