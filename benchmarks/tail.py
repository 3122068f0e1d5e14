"""The latency that 99 of 100 predictions stay within at half the load that the platform can take, beside FastAPI.

    python benchmarks/tail.py

How much each takes is measured first (by wrk, without a pause); then both get half of the lesser, in turns, open loop.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from subprocess import PIPE, Popen
from typing import Any

import psutil
import report
from load import BenchmarkFailed, Target, require_wrk
from machine import described
from open_loop import OpenLoop
from rounds import System, company, measure, used_cpus
from scene import OWN, running_scene

ROUNDS, LOAD_S = 7, 6
SATURATION_ROUNDS, SATURATION_S = 3, 4
WARM_UP_S = 3
FLOOR, AIM = 1.5, 1.0
GENERATOR = "the generator alone"
# What the generator itself adds to a latency, of that of the faster system, above which the figures are its own.
MOST_OF_ITS_OWN = 0.5
_AT_ONCE = """
import asyncio, sys
class AtOnce(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
async def main():
    server = await asyncio.get_running_loop().create_server(AtOnce, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Stretch:
    """One stretch of open-loop load."""

    system: str
    p50_ms: float
    p99_ms: float
    #: How late requests were sent.
    late_p99_ms: float
    connections: int
    other_cpus: float


def _run() -> dict[str, Any]:
    require_wrk()
    with running_scene() as scene, scene.fastapi() as fastapi, _at_once(scene.own().target) as at_once:
        systems = [scene.own(), fastapi]
        most = {system.name: _saturation(system) for system in systems}
        per_second = min(most.values()) / 2
        print(f"most: {most}; open loop at {per_second:,.0f} requests/s", flush=True)
        stretches = []
        for number in range(ROUNDS):
            turn = [*systems, at_once]
            for system in turn if number % 2 else turn[::-1]:
                stretches.append(_stretch(system, per_second))
                print(f"round {number + 1} of {ROUNDS}  {system.name:20} p99 {stretches[-1].p99_ms:.2f} ms", flush=True)
    return _document(stretches, most, per_second)


def _saturation(system: System) -> float:
    measure(system, WARM_UP_S)
    return median(measure(system, SATURATION_S).figures()["requests/s"] for _ in range(SATURATION_ROUNDS))


def _stretch(system: System, per_second: float) -> Stretch:
    with used_cpus(system.processes()) as used:
        arrivals = OpenLoop(system.target).run(per_second, LOAD_S)
    p50, p99 = (arrivals.answered_ms(share) for share in (0.5, 0.99))
    return Stretch(system.name, p50, p99, arrivals.sent_ms(0.99), arrivals.connections, used.others)


@contextmanager
def _at_once(target: Target) -> Iterator[System]:
    """Run a server that answers everything at once: what is measured of it is the generator's own."""
    child = Popen([sys.executable, "-c", _AT_ONCE], stdout=PIPE, text=True)
    try:
        port = child.stdout.readline().strip() if child.stdout else ""
        nothing = Target(f"http://127.0.0.1:{port}/", target.body, target.credential)
        yield System(GENERATOR, "", nothing, lambda: [psutil.Process(child.pid)])
    finally:
        child.terminate()
        child.wait()


def _document(stretches: list[Stretch], most: dict[str, float], per_second: float) -> dict[str, Any]:
    found = {name: [one for one in stretches if one.system == name] for name in (OWN, "fastapi", GENERATOR)}
    p99 = {name: median(one.p99_ms for one in those) for name, those in found.items()}
    if p99[GENERATOR] > MOST_OF_ITS_OWN * min(p99[OWN], p99["fastapi"]):
        raise BenchmarkFailed(f"The generator alone takes {p99[GENERATOR]:.2f} ms; it would measure itself: {p99}")
    ratio = p99[OWN] / p99["fastapi"]
    return {
        "machine": described(),
        "most": most,
        "per_second": per_second,
        "stretches": [vars(one) for one in stretches],
        "p99_ms": p99,
        "judged": {"ratio": ratio, "floor": FLOOR, "aim": AIM, "met": ratio <= FLOOR},
    }


def _table(document: dict[str, Any]) -> str:
    lines = ["| | most requests/s | p50 ms | p99 ms | sent late, p99 ms | connections |", f"|---|{5 * '---:|'}"]
    for name in (OWN, "fastapi", GENERATOR):
        those = [one for one in document["stretches"] if one["system"] == name]
        cells = [_cell([one[column] for one in those]) for column in ("p50_ms", "p99_ms", "late_p99_ms")]
        most = f"{document['most'][name]:,.0f}" if name in document["most"] else ""
        connections = max(one["connections"] for one in those)
        lines.append(f"| {name} | {most} | {' | '.join(cells)} | {connections} |")
    lines += ["", f"open loop at {document['per_second']:,.0f} requests/s"]
    lines.append(f"p99 of {OWN} / fastapi: {report.verdict(document['judged'], least=False)}")
    return "\n".join([*lines, *company([one["other_cpus"] for one in document["stretches"]])])


def _cell(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    report.conclude("tail", _run, _table)
