"""One revision in an app of its own, without a route: whatever its file does, it does here.

The process is told what it needs to answer and nothing else: no setting, credential or grant. The artifact comes from
the node's cache, or from the model servers, who give it to whoever names its app and digest.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import file_digest
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from ray import serve
from ray.serve import Application

from ..serving.errors import ModelBroken, ModelFailed
from ..serving.formats import DTYPES, Array, Feeds, Model, program_loader_of
from ..serving.formats.frames import ARRAYS, REFUSED, pack
from ..serving.pace import Pace
from ..serving.published.table import Signature

_INFERENCE = "inference"
_HIDDEN = ("RAYMILL_", "RAY_AUTH_", "RAY_JOB_")


@dataclass(frozen=True)
class DedicatedArgs:
    """What an app is told; it can be read by whoever sees the cluster, and holds no secret."""

    app: str
    format: str
    sha256: str
    signature: dict[str, Any]
    cache: str
    threads: float = 1.0


class Dedicated:
    """Replica that holds one model."""

    async def __init__(self, args: dict[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        _forget_environment()
        told = DedicatedArgs(**args)
        signature = Signature.model_validate(told.signature)
        self._dtypes = {spec.name: DTYPES[spec.datatype] for spec in signature.outputs}
        self._executor = ThreadPoolExecutor(max(1, ceil(told.threads)), thread_name_prefix="run")
        # What is loaded lies in memory; the file is not needed any more.
        with TemporaryDirectory(prefix="raymill-model-") as folder:
            path = _cached(told) or await _fetched(told, Path(folder) / "artifact")
            self._model: Model = await self._in_thread(lambda: program_loader_of(told.format)(path, signature))
        self._pace = Pace()

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Take note of the configuration, which is for the controller to recognise alone."""

    async def run(self, outputs: list[str], feeds: Feeds) -> bytes:
        """Compute the named outputs; what the model refuses is an answer too, for no exception may travel."""
        size = sum(array.nbytes for array in feeds.values())
        if self._pace.is_quick(size):
            return self._answer(outputs, feeds, size)
        answer: bytes = await self._in_thread(lambda: self._answer(outputs, feeds, size))
        return answer

    def _answer(self, outputs: list[str], feeds: Feeds, size: int) -> bytes:
        begun = perf_counter()
        try:
            arrays = self._model.run(outputs, feeds)
            answer = ARRAYS + pack({name: self._cast(name, array) for name, array in zip(outputs, arrays, strict=True)})
        except ModelFailed as error:
            return REFUSED + error.message.encode()
        except Exception as error:  # the user's program may raise anything
            return REFUSED + f"The model failed: {error!r}".encode()
        self._pace.learn(size, perf_counter() - begun)
        return answer

    def _cast(self, name: str, array: Array) -> Array:
        return array.astype(self._dtypes[name], copy=False)

    async def _in_thread(self, call: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def build(args: dict[str, Any], options: dict[str, Any]) -> Application:
    """Build the app from what ``DedicatedArgs`` names; the options are those of Serve's deployment."""
    deployment = serve.deployment(name="model", **options)
    return deployment(Dedicated).bind(asdict(DedicatedArgs(**args)))


def _forget_environment() -> None:
    """Keep from the model's code and its children what the process was started with; Ray has read it by now."""
    for name in [name for name in os.environ if name.startswith(_HIDDEN)]:
        del os.environ[name]


def _cached(told: DedicatedArgs) -> Path | None:
    path = Path(told.cache) / told.sha256[:2] / told.sha256 / "artifact"
    try:
        return path if _digest(path) == told.sha256 else None
    except OSError:
        return None


async def _fetched(told: DedicatedArgs, path: Path) -> Path:
    """Ask the model servers for the artifact."""
    handle: Any = serve.get_deployment_handle(_INFERENCE, _INFERENCE)
    pieces = handle.options(method_name="artifact", stream=True).remote(told.app, told.sha256)
    with path.open("wb") as file:
        async for piece in pieces:
            file.write(piece)
    if _digest(path) != told.sha256:
        raise ModelBroken(f"The artifact of {told.app} did not arrive whole.")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
