"""A small ASGI app on Ray Serve that shows what the edge lets through."""

import asyncio
import json
import os
from typing import Any
from urllib.parse import parse_qs

import psutil
from ray import serve
from starlette.types import Receive, Scope, Send

MB = 2**20


class EdgeApp:
    """Dispatches by the last segment of the path."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.running = 0
        self.rss_peak = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        name = scope["path"].rsplit("/", 1)[-1]
        handler = {"download": self.download, "events": self.events, "hang": self.hang, "crash": self.crash}
        await handler.get(name, self.upload if scope["method"] == "PUT" else self.who)(scope, receive, send)

    async def who(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(
            send,
            self.state()
            | {
                "client": list(scope["client"]),
                "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
                "request_id": scope["state"]["request_id"],
            },
        )

    def state(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "cancelled": self.cancelled, "running": self.running, "rss_peak": self.rss_peak}

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        pause = float(parse_qs(scope["query_string"].decode()).get("pause", ["0"])[0])
        before, size, more = rss(), 0, True
        self.rss_peak = before
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, more = size + len(message["body"]), message.get("more_body", False)
            if pause:
                await asyncio.sleep(pause)
            self.rss_peak = max(self.rss_peak, rss())
        await answer(send, {"bytes": size, "grown": self.rss_peak - before})

    async def download(self, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, b"application/octet-stream")
        before, chunk = rss(), bytes(MB)
        self.rss_peak = before
        for _ in range(500):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            self.rss_peak = max(self.rss_peak, rss())
        grown = json.dumps({"grown": self.rss_peak - before}).encode()
        await send({"type": "http.response.body", "body": grown})

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, b"text/event-stream")
        for number in range(5):
            await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
            await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": b""})

    async def hang(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.running += 1
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def crash(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a planted secret")


async def lifespan(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def rss() -> int:
    return psutil.Process().memory_info().rss


async def start(send: Send, content_type: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})


async def answer(send: Send, body: dict[str, Any]) -> None:
    await start(send, b"application/json")
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def build() -> EdgeApp:
    return EdgeApp()


@serve.deployment
@serve.ingress(build)
class Edge:
    """Wide: many requests at a time."""


@serve.deployment
@serve.ingress(build)
class Narrow:
    """One request at a time, and one waiting."""


wide = Edge.options(max_ongoing_requests=100, ray_actor_options={"num_cpus": 0}).bind()
narrow = Narrow.options(
    max_ongoing_requests=1, max_queued_requests=1, ray_actor_options={"num_cpus": 0}, health_check_period_s=1
).bind()
