"""Model servers in this process, driven through their ASGI door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from plane import Plane

from raymill.serving.parts import Parts
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
