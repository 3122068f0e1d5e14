"""Predictions per second of the users' own URL, beside FastAPI on uvicorn and LitServe with the same model.

All three run at the same time on this machine and are loaded one after the other, in each round in another order.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
import report
from load import BenchmarkFailed, Target, drive, require_wrk
from own_platform import OwnPlatform, digits_deployment, download_model, free_ports, running_platform

from raymill.sdk import Client
from raymill.sdk.credentials import StoredCredential
from servers import HERE, litserve_python, litserve_version, running_server

ROUNDS = 5
LOAD_S = 6
WARM_UP_S = 2
RESULTS = HERE / "results"
TOLERANCE = 1e-5
COUNTED_WITHIN_S = 3.0


@dataclass(frozen=True)
class System:
    """A system under load, and the processes that do its work."""

    name: str
    version: str
    target: Target
    processes: Callable[[], list[psutil.Process]]


def main() -> None:
    """Run the benchmark; exit with 1 when it is not worth anything, with 2 when a floor is missed."""
    try:
        document = _run()
    except BenchmarkFailed as failure:
        sys.exit(str(failure))
    report.write(document, RESULTS)
    print(f"\n{report.table(document)}\n\nwritten to {RESULTS.relative_to(HERE.parent)}/")
    if not all(floor["met"] for floor in document["floors"].values()):
        sys.exit(2)


def _run() -> dict[str, object]:
    require_wrk()
    python = litserve_python()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rm-bench-")))
        platform = stack.enter_context(running_platform())
        client = stack.enter_context(platform.client())
        deployment = digits_deployment(client)
        model, body = download_model(client, deployment, folder), _body(folder)
        systems = [
            _server(stack, "fastapi", sys.executable, version("fastapi"), model, body),
            _own(platform, deployment.endpoint, body),
            _server(stack, "litserve", python, litserve_version(python), model, body),
        ]
        _compare_answers(systems)
        before = client.deployments.metrics(deployment.id)["requests"]
        rounds = _rounds(systems)
        _check_metrics(client, deployment.id, before, rounds)
    return report.summary(rounds, {system.name: system.version for system in systems})


def _body(folder: Path) -> Path:
    from sklearn.datasets import load_digits

    row = ", ".join(str(value) for value in load_digits().data[0].tolist())
    body = folder / "body.json"
    body.write_text(f'{{"instances": [[{row}]]}}')
    return body


def _server(stack: ExitStack, name: str, python: str, shown: str, model: Path, body: Path) -> System:
    (port,) = free_ports(1)
    log, credential = body.with_name(f"{name}.log"), body.with_name(f"{name}.credential")
    credential.write_text("")
    process = stack.enter_context(running_server(python, f"{name}_server.py", model, port, log))
    target = Target(f"http://127.0.0.1:{port}/predict", body, credential)
    return System(name, shown, target, lambda: [process, *process.children(recursive=True)])


def _own(platform: OwnPlatform, endpoint: str, body: Path) -> System:
    login, credential = StoredCredential(platform.home), body.with_name("raymill.credential")
    credential.write_text(login.headers()["Authorization"])
    url = endpoint if endpoint.startswith("http") else f"{login.base_url}{endpoint}"
    return System("raymill", version("raymill"), Target(f"{url}/predict", body, credential), platform.data_plane)


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
    ((*row,),) = answer.json()["predictions"]
    return row


def _rounds(systems: list[System]) -> list[report.Round]:
    for system in systems:
        drive(system.target, WARM_UP_S)
    rounds = []
    for number in range(ROUNDS):
        first = number % len(systems)
        for system in systems[first:] + systems[:first]:
            rounds.append(_round(system))
            rate = rounds[-1].figures()["requests/s"]
            print(f"round {number + 1} of {ROUNDS}  {system.name:10} {rate:8,.0f} requests/s", flush=True)
    return rounds


def _round(system: System) -> report.Round:
    processes = system.processes()
    before = [_cpu_s(process) for process in processes]
    load = drive(system.target, LOAD_S)
    spent = sum(_cpu_s(process) - start for process, start in zip(processes, before, strict=True))
    return report.Round(system.name, load, spent)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _check_metrics(client: Client, deployment_id: str, before: int, rounds: list[report.Round]) -> None:
    """Fail unless the platform counted what was sent: its metrics were on."""
    sent = sum(one.load.requests for one in rounds if one.system == "raymill")
    deadline = time.monotonic() + COUNTED_WITHIN_S
    while (counted := client.deployments.metrics(deployment_id)["requests"] - before) < sent:
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"The platform's metrics count {counted} requests of {sent}.")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
