"""Model files that are programs: one that doubles, and one that looks around when it is loaded."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

SIGNATURE: dict[str, Any] = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}

# All that a process was started with, and all that it can ask its own process for.
_LOOK = """(lambda o, p, t: p.write_text(__import__("json").dumps({
    "environment": dict(o.environ),
    "started_with": p.__class__("/proc/self/environ").read_bytes().decode(errors="replace").split("\\0"),
    "command": p.__class__("/proc/self/cmdline").read_bytes().decode(errors="replace").split("\\0"),
    "modules": sorted(__import__("sys").modules),
    "user": o.getuid(),
})) and t.nn.Parameter(t.ones(2)))(__import__("os"), __import__("pathlib").Path(%r), __import__("torch"))"""


def doubler(path: Path) -> Path:
    """TorchScript: twice the input."""
    import torch

    class Doubler(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    torch.jit.save(torch.jit.script(Doubler()), path)  # type: ignore[no-untyped-call]
    return path


def spy(path: Path, report: Path) -> Path:
    """torch.export: writes down what it sees, when it is loaded."""
    import torch

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    rows = torch.export.Dim("rows")
    program = torch.export.export(Scale(), (torch.ones(3, 2),), dynamic_shapes=({0: rows},))
    honest = io.BytesIO()
    torch.export.save(program, honest)
    with zipfile.ZipFile(honest) as archive, zipfile.ZipFile(path, "w") as planted:
        for name in archive.namelist():
            planted.writestr(name, _planted(name, archive.read(name), report))
    return path


def _planted(name: str, content: bytes, report: Path) -> bytes:
    """Let the weights be read by pickle, and put a program in their place."""
    import torch

    if name.endswith("weights_config.json"):
        config = json.loads(content)
        for weight in config["config"].values():
            weight["use_pickle"] = True
        return json.dumps(config).encode()
    if "/weights/weight_" in name:
        pickled = io.BytesIO()
        torch.save(_Planted(str(report)), pickled)
        return pickled.getvalue()
    return content


class _Planted:
    def __init__(self, report: str) -> None:
        self._report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (_LOOK % self._report,)
