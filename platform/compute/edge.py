"""The edge inside every process that answers HTTP: who is asking, how much may be sent, under which request id.

Ray Serve wraps each ingress replica (and its own proxies) in what `middlewares` returns. It runs outside of everything
that Serve does with a request, so what it changes in the scope is what Serve and the app see.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import ray
from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY, RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..kernel.settings import Settings
from ..kernel.telemetry import take_request_id
from .edge_answers import answer, replaces_serve_text
from .edge_limits import BodyLimits
from .lane import LANE, Lane

log = logging.getLogger(__name__)

PEER = b"x-raymill-peer"
NO_DISCONNECT = b"x-request-disconnect-disabled"
DRAIN_BYTES = 256 * 2**20
DRAIN_S = 10.0
_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
# Headers with a meaning for Serve or for the edge that no client may give.
_RESERVED = frozenset(
    {PEER, NO_DISCONNECT, b"x-request-timeout-seconds", b"x-request-id", b"forwarded", b"x-real-ip"}
    | {b"x-forwarded-host", b"x-forwarded-port"}
    | _FORWARDED
)
_CLOSE = (b"connection", b"close")
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_REFRESH_S = 5.0
_PATIENCE_S = 1.0

Network: TypeAlias = IPv4Network | IPv6Network
Headers: TypeAlias = list[tuple[bytes, bytes]]


def middlewares() -> list[Middleware]:
    """Build the edge from the settings of this process (Ray Serve's callback)."""
    settings = Settings()
    nodes = ClusterNodes(_node_addresses) if RAY_SERVE_ENABLE_HA_PROXY else None
    return [
        Middleware(
            EdgeMiddleware,
            limits=BodyLimits.of(settings),
            nodes=nodes,
            trusted_proxies=tuple(ip_network(text) for text in settings.http.trusted_proxies),
            stream_uploads=not RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD,
            lane=LANE,
        )
    ]


def _node_addresses() -> set[str]:
    return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


class ClusterNodes:
    """The addresses from which a proxy of this cluster may speak: loopback and the cluster's nodes."""

    def __init__(self, discover: Callable[[], set[str]]) -> None:
        self._discover = discover
        self._known: frozenset[str] = _LOOPBACK
        self._refresh_at = 0.0

    async def include(self, address: str) -> bool:
        """Say whether the address is a node's, asking Ray again when it is unknown."""
        if address not in self._known and time.monotonic() >= self._refresh_at:
            self._refresh_at = time.monotonic() + _REFRESH_S
            await self._refresh()
        return address in self._known

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                self._known = _LOOPBACK | await asyncio.to_thread(self._discover)
        except Exception as error:  # Ray's, while its head is away: those that are known stay so
            log.warning("The cluster's nodes are not known anew", extra={"error": repr(error)})


class EdgeMiddleware:
    """Pure ASGI middleware around Ray Serve's own handling of a request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: BodyLimits,
        nodes: ClusterNodes | None,
        trusted_proxies: tuple[Network, ...] = (),
        stream_uploads: bool = True,
        lane: Lane | None = None,
    ) -> None:
        self._app = app
        self._limits = limits
        self._nodes = nodes
        self._trusted_proxies = trusted_proxies
        self._stream_uploads = stream_uploads
        self._lane = lane or Lane()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Clean the scope, refuse what is too large, and pass the rest on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = await self._admit(scope, receive, send)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        elif self._lane.takes(scope):
            await exchange.run(self._lane, limits_itself=True)
        elif scope["path"] == "/-/routes":
            await exchange.refuse(404)
        elif exchange.is_too_large():
            await exchange.refuse_body()
        else:
            await exchange.run(self._app)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> "Exchange":
        headers: Headers = scope["headers"]
        reserved = {name: value for name, value in headers if name in _RESERVED}
        kept = [header for header in headers if header[0] not in _RESERVED]
        await self._learn_client(scope, reserved)
        limit, is_upload = self._limits.of_request(scope)
        request_id = take_request_id(reserved.get(b"x-request-id", b"").decode("latin-1"))
        kept.append((b"x-request-id", request_id.encode()))
        if is_upload and self._stream_uploads:
            kept.append((NO_DISCONNECT, b"?1"))
        scope["headers"] = kept
        scope.setdefault("state", {})["request_id"] = request_id
        return Exchange(scope, receive, send, limit, request_id)

    async def _learn_client(self, scope: Scope, reserved: dict[bytes, bytes]) -> None:
        client, peer = scope.get("client"), reserved.get(PEER)
        if peer and client and self._nodes and await self._nodes.include(client[0]):
            host, _, port = peer.decode("latin-1").rpartition(":")
            scope["client"] = client = (host.strip("[]"), int(port))
        if self._trusted_proxies and client and self._trusts(client[0]):
            self._believe_proxy(scope, reserved)

    def _believe_proxy(self, scope: Scope, reserved: dict[bytes, bytes]) -> None:
        hops = [hop.strip() for hop in reserved.get(b"x-forwarded-for", b"").decode("latin-1").split(",")]
        strangers = [hop for hop in hops if hop and not self._trusts(hop)]
        if strangers:
            scope["client"] = (strangers[-1], 0)
        scheme = reserved.get(b"x-forwarded-proto", b"").decode("latin-1")
        if scheme in ("http", "https"):
            scope["scheme"] = scheme if scope["type"] == "http" else scheme.replace("http", "ws")

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted_proxies)


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_answered",
        "_drains",
        "_has_ended",
        "_limit",
        "_limits_itself",
        "_receive",
        "_request_id",
        "_scope",
        "_seen",
        "_send",
        "_started",
        "_too_large",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int, request_id: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = limit
        self._request_id = request_id
        self._seen = 0
        self._started = False
        #: The edge has answered in the app's place; what the app still says is dropped.
        self._answered = False
        self._too_large = False
        #: The app refuses what is too large, and has refused this before it had read all.
        self._limits_itself = self._drains = False
        #: A body without an announced length is there to its end.
        self._has_ended = False

    def _length(self) -> int | None:
        for name, value in self._scope["headers"]:
            if name == b"content-length":
                return int(value) if value.isdigit() else None
        return None

    def is_too_large(self) -> bool:
        """Say whether the announced body exceeds the limit of its route."""
        length = self._length()
        return length is not None and length > self._limit

    async def run(self, app: ASGIApp, *, limits_itself: bool = False) -> None:
        """Run the app; answer in its place when the body grows too large or no answer comes out of it.

        Args:
            app: What answers.
            limits_itself: Whether it refuses what is too large, before it has read all that is announced.
        """
        self._limits_itself = limits_itself
        receive = self._receive if self._length() is not None else self._counted
        try:
            await app(self._scope, receive, self._guarded)
        except (asyncio.CancelledError, Exception) as error:
            if not self._too_large:
                if self._started or isinstance(error, asyncio.CancelledError):
                    raise
                log.exception("The app failed before it answered", extra={"request_id": self._request_id})
        if self._too_large:
            await self.refuse_body()
        elif not self._started:
            await self.refuse(500)

    async def refuse(self, status: int, original: Message | None = None, *, more_body: bool = False) -> None:
        """Send the edge's own answer in the app's place."""
        self._answered = self._started = True
        reply = answer(status, self._scope["path"], self._request_id, original, limit=self._limit)
        headers = reply.headers(self._request_id, close=more_body)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": reply.body, "more_body": more_body})

    async def refuse_body(self) -> None:
        """Answer 413 in the app's place."""
        await self.refuse(413, more_body=True)
        await self._drain()

    async def _drain(self) -> None:
        """End an answer, but read on within bounds: closing at once would reset the connection and lose it."""
        seen = 0
        try:
            async with asyncio.timeout(DRAIN_S):
                while seen < DRAIN_BYTES:
                    message = await self._receive()
                    seen += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            log.info("A refused sender went on sending", extra={"request_id": self._request_id})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _counted(self) -> Message:
        if self._too_large:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        self._has_ended = not message.get("more_body", False)
        if self._limits_itself or self._seen <= self._limit:
            return message
        if not self._started:
            self._too_large = self._answered = True
        return {"type": "http.disconnect"}

    def _close_unread(self, headers: Headers) -> None:
        """Let an app's refusal end the connection where the body is too large, whatever the reason of the refusal."""
        if self.is_too_large() and _CLOSE not in headers:
            headers.append(_CLOSE)
        self._drains = _CLOSE in headers

    async def _guarded(self, message: Message) -> None:
        if self._answered:
            return
        if message["type"] == "http.response.start":
            if replaces_serve_text(message, self._scope["path"]):
                await self.refuse(message["status"], message)
                return
            self._started = True
            headers = [header for header in message["headers"] if header[0].lower() != b"x-request-id"]
            if self._limits_itself and message["status"] >= 400 and not self._has_ended:
                self._close_unread(headers)
            message["headers"] = [*headers, (b"x-request-id", self._request_id.encode())]
        elif self._drains and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            return
        await self._send(message)
