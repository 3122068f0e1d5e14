"""The edge inside a replica, where Serve was started without our callback."""

import asyncio

import httpx
import pytest
from ray.serve._private import constants
from starlette.types import ASGIApp, Receive, Scope, Send

from raymill.compute.inner_edge import InnerEdge, behind_edge
from raymill.kernel.settings import HttpSettings, Settings

SETTINGS = Settings(http=HttpSettings(max_body_bytes=10))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the headers of the request; crash at /crash."""
    if scope["path"] == "/crash":
        raise ZeroDivisionError
    await receive()
    seen = b",".join(name for name, _ in scope["headers"])
    headers = [(b"content-type", b"text/html"), (b"x-request-id", b"the app's own")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": seen})


def ask(method: str, path: str, **options: object) -> httpx.Response:
    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app=InnerEdge(app, SETTINGS))
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]

    return asyncio.run(exchange())


def test_serve_alone_names_the_request_in_the_headers() -> None:
    assert "x-request-id" not in ask("GET", "/").headers


@pytest.mark.parametrize(("path", "body", "status"), [("/", b"x" * 11, 413), ("/crash", b"", 500)])
def test_refusals_and_crashes_have_the_error_shape(path: str, body: bytes, status: int) -> None:
    answer = ask("POST", path, content=body, headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.json()["request_id"]) == (status, "mine")


def test_what_only_a_proxy_may_say_is_not_believed() -> None:
    forged = {"X-Raymill-Peer": "10.0.0.1:1", "X-Forwarded-For": "10.0.0.1", "X-Request-Disconnect-Disabled": "?1"}
    seen = ask("GET", "/", headers=forged).text
    assert not [name for name in forged if name.lower() in seen.split(",")]


def test_an_app_is_put_behind_the_edge_where_serve_did_not() -> None:
    wrapped: ASGIApp = behind_edge(app, SETTINGS)
    assert constants.RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH is None
    assert isinstance(wrapped, InnerEdge)
