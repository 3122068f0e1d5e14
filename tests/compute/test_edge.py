"""The edge middleware in front of small ASGI apps, without a server."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from ipaddress import ip_network
from typing import Any

import pytest
from ray.serve._private.config import DeploymentConfig
from ray.serve.config import AutoscalingConfig

from raymill.compute.edge import ClusterNodes, EdgeMiddleware
from raymill.compute.edge_limits import BodyLimits
from raymill.compute.lane import Lane

Message = dict[str, Any]
App = Callable[..., Coroutine[Any, Any, None]]
LIMITS = BodyLimits(inference=10, upload=1000, other=20)


class Recorder:
    """An app that remembers its scope, reads its body and answers with what it is told."""

    def __init__(self, status: int = 200, content_type: bytes = b"application/json") -> None:
        self.scope: Message = {}
        self.body = b""
        self.start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]}

    async def __call__(self, scope: Message, receive: App, send: App) -> None:
        self.scope = scope
        more = True
        while more:
            message: Message = await receive()  # type: ignore[func-returns-value]
            more = message.get("more_body", False)
            self.body += message.get("body", b"")
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
        await send(self.start)
        await send({"type": "http.response.body", "body": b"text"})


class Answered:
    """The whole answer of one request."""

    def __init__(self, sent: list[Message]) -> None:
        self.status: int = sent[0]["status"]
        self.headers = dict(sent[0]["headers"])
        self.body = b"".join(message["body"] for message in sent[1:])
        self.ended = not sent[-1].get("more_body", False)


def opened(app: App) -> Lane:
    """Return a lane that one request at a time may take."""
    lane = Lane()
    lane.open(app)
    lane.follow(DeploymentConfig(max_ongoing_requests=1))
    return lane


def ask(
    app: App, *, path: str = "/api/x", method: str = "GET", pieces: tuple[bytes, ...] = (b"",), **given: Any
) -> Answered:
    """Send one request through the edge; headers and the scope's client come by keyword."""
    options = {"trusted_proxies": given.pop("trusted", ()), "nodes": given.pop("nodes", ClusterNodes(set))}
    options["lane"] = given.pop("lane", None)
    client = given.pop("client", ("127.0.0.1", 5))
    headers = [(name.encode(), value.encode()) for name, value in given.pop("headers", {}).items()]
    scope = {"type": "http", "path": path, "method": method, "headers": headers, "client": client, "scheme": "http"}
    body = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    body[-1]["more_body"] = False
    unread = given.pop("left", [])
    sent: list[Message] = []

    async def receive() -> Message:
        return body.pop(0) if body else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(EdgeMiddleware(app, limits=LIMITS, **options)(scope, receive, send))
    unread += body
    return Answered(sent)


def test_a_node_may_name_the_client() -> None:
    app = Recorder()
    ask(app, headers={"x-raymill-peer": "[2001:db8::1]:77"})
    assert app.scope["client"] == ("2001:db8::1", 77)
    assert "x-raymill-peer" not in {name.decode() for name, _ in app.scope["headers"]}


def test_a_stranger_may_not_name_the_client() -> None:
    app = Recorder()
    ask(app, client=("192.0.2.9", 5), headers={"x-raymill-peer": "[6.6.6.6]:77"})
    assert app.scope["client"] == ("192.0.2.9", 5)


def test_a_node_that_joined_later_is_found() -> None:
    app = Recorder()
    ask(
        app,
        client=("10.0.0.2", 5),
        headers={"x-raymill-peer": "[6.6.6.6]:77"},
        nodes=ClusterNodes(lambda: {"10.0.0.2"}),
    )
    assert app.scope["client"] == ("6.6.6.6", 77)


def test_without_haproxy_nobody_may_name_the_client() -> None:
    app = Recorder()
    ask(app, headers={"x-raymill-peer": "[6.6.6.6]:77"}, nodes=None)
    assert app.scope["client"] == ("127.0.0.1", 5)


@pytest.mark.parametrize(
    ("peer", "expected", "scheme"), [("10.0.0.1", "6.6.6.6", "https"), ("192.0.2.1", "192.0.2.1", "http")]
)
def test_only_a_trusted_proxy_may_forward(peer: str, expected: str, scheme: str) -> None:
    app = Recorder()
    forwarded = {"x-forwarded-for": "1.1.1.1, 6.6.6.6, 10.9.9.9", "x-forwarded-proto": "https"}
    ask(app, trusted=(ip_network("10.0.0.0/8"),), headers={"x-raymill-peer": f"[{peer}]:1", **forwarded})
    assert app.scope["client"][0] == expected
    assert app.scope["scheme"] == scheme


@pytest.mark.parametrize(
    ("method", "path", "flagged"),
    [
        ("POST", "/api/v1/datasets/dst_1/versions", True),
        ("PUT", "/api/v1/models/m/versions/3/artifacts/a/b.onnx", True),
        ("POST", "/api/v1/models/m/versions/import", True),
        ("PUT", "/api/v1/training-jobs/job_1/checkpoint", True),
        ("PUT", "/api/v1/jobs/api/packages/gcs/_ray_pkg_1.zip", True),
        ("POST", "/api/v1/jobs/api/jobs/", False),
        ("GET", "/api/v1/datasets/dst_1/versions", False),
        ("POST", "/api/v1/datasets", False),
        ("POST", "/fn/api/v1/datasets/dst_1/versions", False),
    ],
)
def test_only_uploads_are_streamed(method: str, path: str, flagged: bool) -> None:
    app = Recorder()
    ask(app, method=method, path=path, headers={"x-request-disconnect-disabled": "?1"})
    flags = [value for name, value in app.scope["headers"] if name == b"x-request-disconnect-disabled"]
    assert flags == ([b"?1"] if flagged else [])


@pytest.mark.parametrize(("path", "limit"), [("/v2/models/m/infer", 10), ("/api/x", 20), ("/v2x", 20)])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_its_limit_is_refused(path: str, limit: int, announced: bool) -> None:
    for size, status in ((limit, 200), (limit + 1, 413)):
        headers = {"content-length": str(size)} if announced else {}
        answered = ask(Recorder(), path=path, method="POST", pieces=(b"x" * size, b""), headers=headers)
        assert answered.status == status
        assert answered.ended
    body = json.loads(answered.body)
    assert str(limit) in body["message"]
    assert ("error" in body) == path.startswith("/v2/")


def test_the_app_never_sees_more_than_the_limit() -> None:
    app = Recorder()
    ask(app, method="POST", pieces=(b"x" * 15,) * 4)
    assert app.body == b"x" * 15


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (404, "RESOURCE_NOT_FOUND"),
        (405, "VALIDATION_ERROR"),
        (408, "EXTERNAL_SERVICE_ERROR"),
        (429, "RATE_LIMIT_EXCEEDED"),
        (500, "INTERNAL_SERVER_ERROR"),
        (503, "EXTERNAL_SERVICE_ERROR"),
    ],
)
def test_serves_own_text_becomes_the_error_shape(status: int, type_: str) -> None:
    answered = ask(Recorder(status, b"text/plain; charset=utf-8"), headers={"x-request-id": "r1"})
    body = json.loads(answered.body)
    assert (answered.status, body["type"], body["request_id"]) == (status, type_, "r1")
    assert (b"retry-after" in answered.headers) == (status in (429, 503))


def test_what_an_app_answers_itself_passes() -> None:
    assert ask(Recorder(503)).body == b"text"
    assert ask(Recorder(503, b"text/plain"), path="/-/healthz").body == b"text"


def test_an_app_that_says_nothing_is_a_500() -> None:
    async def silent(scope: Message, receive: App, send: App) -> None:
        return

    async def failing(scope: Message, receive: App, send: App) -> None:
        raise RuntimeError("secret")

    for app in (silent, failing):
        answered = ask(app)
        assert answered.status == 500
        assert b"secret" not in answered.body


def test_a_cancelled_request_stays_cancelled() -> None:
    async def cancelled(scope: Message, receive: App, send: App) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        ask(cancelled)


def test_routes_are_refused_by_a_replica_too() -> None:
    assert ask(Recorder(), path="/-/routes").status == 404


@pytest.mark.parametrize(
    ("method", "path", "is_short"),
    [
        ("POST", "/v2/models/m/predict", True),
        ("GET", "/v2/models/m", False),
        ("POST", "/v2/repository/index", False),
        ("POST", "/api/v1/x", False),
    ],
)
def test_inference_takes_the_short_way_behind_the_same_edge(method: str, path: str, is_short: bool) -> None:
    short, serve = Recorder(), Recorder()
    lane = opened(short)
    for _ in range(2):
        answered = ask(serve, lane=lane, method=method, path=path, headers={"x-raymill-peer": "[2001:db8::1]:77"})
        assert answered.headers[b"x-request-id"].startswith(b"req_")
    used, other = (short, serve) if is_short else (serve, short)
    assert used.scope["client"] == ("2001:db8::1", 77)
    assert other.scope == {}


def test_what_is_too_much_for_the_short_way_goes_through_serve() -> None:
    serve, lane = Recorder(), Lane()

    async def nested(scope: Message, receive: App, send: App) -> None:
        # While this one request is on its way, another one comes.
        await asyncio.to_thread(ask, serve, lane=lane, method="POST", path="/v2/models/m/infer")
        await send({"type": "http.response.start", "status": 200, "headers": []})

    ask(serve, lane=lane, method="POST", path="/v2/models/m/infer")
    assert serve.scope, "a lane that was never opened takes nothing"
    serve.scope = {}
    ask(serve, lane=opened(nested), method="POST", path="/v2/models/m/infer")
    assert serve.scope


def test_the_short_way_follows_the_configuration_of_serve() -> None:
    infer = {"type": "http", "method": "POST", "path": "/v2/models/m/infer"}
    lane = opened(Recorder())
    assert lane.takes(infer)
    lane.follow(DeploymentConfig(autoscaling_config=AutoscalingConfig(max_replicas=3)))
    assert not lane.takes(infer), "Serve scales by the requests that it counts, and counts none there"
    lane.follow(DeploymentConfig(max_ongoing_requests=1))
    assert lane.takes(infer)


class Refuser:
    """An app that refuses each body as too large: at once, or after its first piece or its last."""

    def __init__(self, reads: int, status: int = 413) -> None:
        self.reads = reads
        self.status = status

    async def __call__(self, scope: Message, receive: App, send: App) -> None:
        for _ in range(self.reads):
            await receive()
        headers = [(b"connection", b"close")] if self.status == 413 else []
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"mine"})


@pytest.mark.parametrize(("reads", "status"), [(0, 413), (1, 413), (3, 413), (0, 401)])
def test_a_body_that_the_short_way_refuses_is_read_to_its_end(reads: int, status: int) -> None:
    pieces = (b"x" * 6, b"y" * 6, b"z" * 6)
    headers = {} if reads else {"content-length": "18"}
    lane, left = opened(Refuser(reads, status)), []
    answered = ask(
        Recorder(), lane=lane, method="POST", path="/v2/models/m/infer", pieces=pieces, headers=headers, left=left
    )
    assert (answered.status, answered.body, answered.ended) == (status, b"mine", True)
    assert answered.headers[b"connection"] == b"close"
    assert left == []


def test_ray_that_does_not_answer_is_no_reason_to_fail() -> None:
    def broken() -> set[str]:
        raise ConnectionError("no head")

    app = Recorder()
    headers = {"x-raymill-peer": "[2001:db8::1]:77"}
    assert ask(app, headers=headers, client=("10.0.0.2", 5), nodes=ClusterNodes(broken)).status == 200
    assert app.scope["client"] == ("10.0.0.2", 5), "who is not known to be a node is not believed"
