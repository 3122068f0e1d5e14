"""Whether running requests together pays: a model server in this process, with batching off and on.

    python benchmarks/batching.py

Two models: one whose calls cost more than their rows (weights are read once per call, however many rows), and one whose
rows cost everything. 64 clients ask for one row each, without a pause; runs alternate.
"""

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

import numpy as np
import onnx_models
import orjson
import structlog
from onnx import TensorProto, helper
from plane import Plane
from servers_in_process import serving

from raymill.serving.published.table import Batching, Signature
from raymill.serving.server import ModelServer

CLIENTS, SECONDS, ROUNDS = 64, 3.0, 3
SIZE = 512


def reader(path: Path) -> Path:
    """144 products with weights of 512 by 512: 150 MB are read for one row as for thirty."""
    return onnx_models.matmul_tower(path, size=SIZE, layers=144)


def counter(path: Path) -> Path:
    """Sines of 64 copies of a row: every row costs the same again, and no weights are read."""
    steps = 64
    names = ["h0", *[f"h{i}" for i in range(1, steps + 1)]]
    nodes = [helper.make_node("Concat", ["x"] * 64, ["h0"], axis=1)]
    nodes += [helper.make_node("Sin", [names[i]], [names[i + 1]]) for i in range(steps)]
    nodes.append(helper.make_node("Slice", [names[-1], "start", "end", "axis"], ["y"]))
    value = helper.make_tensor_value_info
    weights = {"start": np.array([0]), "end": np.array([SIZE]), "axis": np.array([1])}
    shape = ["n", SIZE]
    tensors = [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)]
    return onnx_models.save(path, nodes, *tensors, weights)


async def post(server: ModelServer, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    """Ask through the ASGI door itself: a client library would take longer than the models."""
    seen: list[dict[str, Any]] = []
    told = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        # The client stays until it is answered.
        return told.pop() if told else await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        seen.append(message)

    await server({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return int(seen[0]["status"])


async def ask(server: ModelServer, name: str, headers: list[tuple[bytes, bytes]]) -> tuple[float, float]:
    """Return requests per second and the milliseconds that 99 of 100 stayed within."""
    body = orjson.dumps({"instances": [[0.5] * SIZE]})
    latencies: list[float] = []
    until = time.perf_counter() + SECONDS

    async def client() -> None:
        while (begun := time.perf_counter()) < until:
            assert await post(server, f"/v2/models/{name}/predict", headers, body) == 200
            latencies.append(time.perf_counter() - begun)
            # As a socket would, let the others have their turn.
            await asyncio.sleep(0)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return len(latencies) / SECONDS, sorted(latencies)[int(len(latencies) * 0.99)] * 1000


async def compare(plane: Plane) -> None:
    async with serving(plane) as running:
        headers = [(name.lower().encode(), value.encode()) for name, value in plane.bearer().items()]
        for model in ("counter", "reader"):
            rates: dict[str, list[float]] = {"alone": [], "together": []}
            for _ in range(ROUNDS):
                for way, known in rates.items():
                    rate, p99 = await ask(running.server, f"{model}.{way}", headers)
                    known.append(rate)
                    print(f"{model:8} {way:9} {rate:7.0f} requests/s  p99 {p99:6.1f} ms")
            alone, together = (statistics.median(known) for known in rates.values())
            print(f"{model:8} together / alone: {together / alone:.2f}")


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        plane = Plane(Path(folder) / "home")
        plane.grants()
        spec = {"datatype": "FP32", "shape": [-1, SIZE]}
        signature = Signature.model_validate({"inputs": [{"name": "x", **spec}], "outputs": [{"name": "y", **spec}]})
        for make in (reader, counter):
            revision = plane.revision(make(Path(folder) / f"{make.__name__}.onnx"), signature)
            plane.endpoint(f"{make.__name__}.alone", revision, endpoint_id="dep_1")
            plane.endpoint(f"{make.__name__}.together", revision, endpoint_id="dep_2", batching=Batching(max_size=32))
        asyncio.run(compare(plane))


if __name__ == "__main__":
    main()
