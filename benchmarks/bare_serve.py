"""Ray Serve as its users write it, on a running cluster: an ingress with a model behind it, and a model that sleeps.

    python bare_serve.py <address> <TorchScript file> <scaling in JSON> pair | sleeper <name>

Its classes are sent to the cluster by value; they see nothing of the platform.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

NAME = "bare"


class Model:
    """A TorchScript module, asked by handle with an array, or by HTTP with JSON."""

    def __init__(self, path: str) -> None:
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        self._module: Any = torch.jit.load(path).eval()

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take a configuration, as the platform's own apps do."""

    async def run(self, rows: Any) -> Any:
        """Return the outputs for an array."""
        with self._torch.inference_mode():
            return self._module(self._torch.from_numpy(rows.copy())).numpy()

    async def __call__(self, request: Request) -> Response:
        """Answer {"instances": …}."""
        rows = np.asarray(orjson.loads(await request.body())["instances"], np.float32)
        return Response(orjson.dumps({"predictions": (await self.run(rows)).tolist()}), media_type="application/json")


class Ingress:
    """Reads and writes JSON, and asks the model by handle."""

    def __init__(self, model: Any) -> None:
        self._run = model.run
        # As the platform's does where it may.
        with suppress(OSError):
            for thread in Path("/proc/self/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)

    async def __call__(self, request: Request) -> Response:
        """Answer {"instances": …}."""
        rows = np.asarray(orjson.loads(await request.body())["instances"], np.float32)
        answer = await self._run.remote(rows)
        return Response(orjson.dumps({"predictions": answer.tolist()}), media_type="application/json")


def main(address: str, path: str, scaling: str, kind: str, name: str = NAME) -> None:
    """Deploy one app on the cluster, with a route of its name."""
    ray.init(address, log_to_driver=False)
    options = {"ray_actor_options": {"num_cpus": 0.5}, "logging_config": {"enable_access_log": False}}
    model = serve.deployment(name="model", **options, **json.loads(scaling))(Model).bind(path)
    if kind == "pair":
        ingress = serve.deployment(name="ingress", max_ongoing_requests=1000, **options)(Ingress)
        serve.run(ingress.bind(model), name=name, route_prefix=f"/{name}")
    else:
        serve.run(model, name=name, route_prefix=f"/{name}")
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
