"""The few pieces of HTTP that a bare ASGI app needs: request heads, bounded bodies, whole answers, the error shape."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from types import coroutine
from typing import Any, NamedTuple

import orjson

from ..kernel.browsers import HTTPS_HEADERS, SECURITY_HEADERS
from ..kernel.errors import BodyTooLarge, RaymillError, error_body
from ..kernel.telemetry import take_request_id
from .errors import BodyLate, ClientGone

Header = tuple[bytes, bytes]

_JSON = (b"content-type", b"application/json")


def _encoded(headers: dict[str, str]) -> tuple[Header, ...]:
    return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())


_FOR_BROWSERS = {True: _encoded(HTTPS_HEADERS), False: _encoded(SECURITY_HEADERS)}


class Head(NamedTuple):
    """A request without its body."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    request_id: bytes
    client: str

    @classmethod
    def of(cls, scope: dict[str, Any]) -> "Head":
        """Read the head from an ASGI scope, taking over or making the request id."""
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id")
        request_id = take_request_id(given.decode("latin-1") if given else None)
        client = scope.get("client")
        return cls(scope["method"], scope["path"], headers, request_id.encode(), client[0] if client else "")


class Response(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = (_JSON,)

    async def send(self, send: Any, request_id: bytes, *, is_https: bool) -> None:
        """Send it, with its length, the request id, and what browsers are told."""
        length = (b"content-length", b"%d" % len(self.body))
        headers = [*self.headers, length, (b"x-request-id", request_id), *_FOR_BROWSERS[is_https]]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(document: Any, status: int = 200) -> Response:
    """Answer with a JSON document."""
    return Response(status, orjson.dumps(document))


def error_response(error: RaymillError, head: Head) -> Response:
    """Answer in the one error shape; below ``/v2`` it also holds ``error``, where that protocol's clients look."""
    body = error_body(error.type, error.message, request_id=head.request_id.decode(), details=error.details)
    if head.path.startswith("/v2"):
        body["error"] = error.message
    extra = _encoded(dict(error.headers))
    if isinstance(error, BodyTooLarge | BodyLate):
        # The rest of the body could still come on it.
        extra += ((b"connection", b"close"),)
    return Response(error.status, orjson.dumps(body), (_JSON, *extra))


_MOST_DIGITS = 18


async def read_body(receive: Any, headers: dict[bytes, bytes], limit_bytes: int, *, within_s: float) -> bytes:
    """Read a request's body.

    Raises:
        BodyTooLarge: If it is announced as, or turns out to be, larger than the limit.
        BodyLate: If it is not there to its end within the time.
        ClientGone: If the client hangs up before the end.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and (len(announced) > _MOST_DIGITS or int(announced) > limit_bytes):
        raise _too_large(limit_bytes)
    reading = _read(receive, limit_bytes)
    try:
        awaited = reading.send(None)
    except StopIteration as done:
        # Nearly always the body came with the head, and a time limit costs ten times as much as to take it.
        body: bytes = done.value
        return body
    try:
        async with asyncio.timeout(within_s):
            return await _rest(reading, awaited)
    except TimeoutError as error:
        raise BodyLate(within_s) from error


@coroutine
def _rest(begun: Coroutine[Any, Any, bytes], awaited: Any) -> Generator[Any, Any, bytes]:
    """Go on with a coroutine that has taken its first step, and awaits something."""
    try:
        while True:
            try:
                given = yield awaited
            except BaseException as error:
                awaited = begun.throw(error)
            else:
                awaited = begun.send(given)
    except StopIteration as done:
        body: bytes = done.value
        return body


async def _read(receive: Any, limit_bytes: int) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    return await _read_pieces(receive, message, limit_bytes)


async def _read_pieces(receive: Any, message: dict[str, Any], limit_bytes: int) -> bytes:
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()
    raise ClientGone


@asynccontextmanager
async def while_there(receive: Any) -> AsyncIterator[None]:
    """Give the block up when the client hangs up; its body must have been read.

    Raises:
        ClientGone: If it does so before the block ends.
    """

    def give_up(_: asyncio.Future[Any]) -> None:
        if task is not None and not ended:
            task.cancel()

    task, ended = asyncio.current_task(), False
    # After the body there is nothing else to tell.
    leaving = asyncio.ensure_future(receive())
    leaving.add_done_callback(give_up)
    try:
        yield
    except asyncio.CancelledError:
        # Whoever else cancels is obeyed.
        if task is not None and leaving.done() and not leaving.cancelled() and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        ended = True
        leaving.cancel()


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than the limit of {limit_bytes} bytes; send fewer rows per request.")
