"""Model servers in this process, driven through their ASGI door."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from plane import Plane

from raymill.serving.parts import Parts
from raymill.serving.published.channel import await_acknowledgement
from raymill.serving.published.documents import SealedDocument
from raymill.serving.server import ModelServer


@dataclass
class Running:
    """A started model server and a client of it."""

    server: ModelServer
    parts: Parts
    client: httpx.AsyncClient

    async def infer(
        self, name: str, data: list[list[float]], headers: dict[str, str], **more: object
    ) -> httpx.Response:
        tensor = {"name": more.pop("input", "features"), "shape": [len(data), len(data[0])], "datatype": "FP32"}
        body = {"inputs": [{**tensor, "data": data}], **more}
        return await self.client.post(f"/v2/models/{name}/infer", json=body, headers=headers)


@asynccontextmanager
async def serving(plane: Plane) -> AsyncIterator[Running]:
    """Start a model server as Serve does, and stop it at the end."""
    parts = Parts.open(plane.settings)
    server = ModelServer(parts)
    await server.start()
    transport = httpx.ASGITransport(app=server, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://raymill") as client:
            yield Running(server, parts, client)
    finally:
        await server.stop()


def acknowledged(plane: Plane, sealed: SealedDocument, **more: Any) -> Awaitable[bool]:
    """Wait for the servers as a publisher does, in a thread."""
    return asyncio.to_thread(await_acknowledgement, plane.cache, sealed, **more)


async def digits_status(running: Running, headers: dict[str, str]) -> int:
    """Return the status of a good request to `digits.mlp`."""
    return (await running.infer("digits.mlp", [[0.1, 0.2, 0.3, 0.4]], headers)).status_code
