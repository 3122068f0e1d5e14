"""Requests per second with binary tensors beside JSON, on this platform: 1,000 rows of 64 float32 in each request.

    python benchmarks/tensors.py

Both ask the same model the same question by the Open Inference Protocol v2, and are answered in the form they ask in.
"""

from dataclasses import replace
from statistics import median
from typing import Any

import httpx
import numpy as np
import onnx
import orjson
import report
from load import BenchmarkFailed, Target, drive, require_wrk
from machine import described
from rounds import Round, System, alternate, cells, company, heading, ratios, spread
from scene import Scene, running_scene

ROUNDS, LOAD_S, WARM_UP_S = 5, 5, 3
ROWS = 1000
FLOOR, AIM = 5.0, 10.0
TOLERANCE = 1e-6
JSON, BINARY = "JSON", "binary tensors"
_LENGTH = "Inference-Header-Content-Length"


def _run() -> dict[str, Any]:
    require_wrk()
    with running_scene() as scene:
        systems = _systems(scene)
        answers = [_ask(system.target) for system in systems]
        if not np.allclose(*answers, atol=TOLERANCE):
            raise BenchmarkFailed("Binary tensors are answered otherwise than JSON.")
        for system in systems:
            drive(system.target, WARM_UP_S)
        rounds = alternate(systems, rounds=ROUNDS, seconds=LOAD_S)
    return _document(rounds)


def _systems(scene: Scene) -> list[System]:
    tensor = onnx.load(scene.model).graph.input[0]
    values = np.random.default_rng(0).normal(size=(ROWS, tensor.type.tensor_type.shape.dim[1].dim_value))
    values = values.astype(np.float32)
    head = {"name": tensor.name, "shape": values.shape, "datatype": "FP32"}
    document = orjson.dumps({"inputs": [{**head, "data": values.ravel().tolist()}]})
    binary = {
        "inputs": [{**head, "parameters": {"binary_data_size": values.nbytes}}],
        "parameters": {"binary_data_output": True},
    }
    lead = orjson.dumps(binary)
    url = scene.url().removesuffix("/predict") + "/infer"
    bodies = {JSON: (document, {}), BINARY: (lead + values.tobytes(), {_LENGTH: str(len(lead))})}
    return [_system(scene, name, url, *given) for name, given in bodies.items()]


def _system(scene: Scene, name: str, url: str, body: bytes, headers: dict[str, str]) -> System:
    file, plain = scene.folder / f"{name}.body", scene.own(url, name)
    file.write_bytes(body)
    return replace(plain, target=replace(plain.target, body=file, headers=headers))


def _ask(target: Target) -> Any:
    headers = {"Content-Type": "application/json", "Authorization": target.credential.read_text(), **target.headers}
    answer = httpx.post(target.url, content=target.body.read_bytes(), headers=headers)
    if answer.status_code != 200:
        raise BenchmarkFailed(f"{target.url} answers {answer.status_code}: {answer.text[:500]}")
    if _LENGTH in answer.headers:
        return np.frombuffer(answer.content[int(answer.headers[_LENGTH]) :], np.float32)
    return np.array(answer.json()["outputs"][0]["data"], np.float32)


def _document(rounds: list[Round]) -> dict[str, Any]:
    found = {name: [one for one in rounds if one.system == name] for name in (JSON, BINARY)}
    times = ratios(found[BINARY], found[JSON])
    return {
        "machine": described(),
        "systems": {name: spread(those) for name, those in found.items()},
        "ratios": times,
        "other_cpus": [one.other_cpus for one in rounds],
        "judged": report.judged(median(times), FLOOR, AIM),
    }


def _table(document: dict[str, Any]) -> str:
    lines = heading()
    lines += [f"| {name} | {cells(figures)} |" for name, figures in document["systems"].items()]
    lines += ["", f"{BINARY} / {JSON}: {report.verdict(document['judged'])}"]
    return "\n".join([*lines, *company(document["other_cpus"])])


if __name__ == "__main__":
    report.conclude("tensors", _run, _table)
