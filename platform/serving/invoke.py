"""One inference request from its head to its answer: who, which revision, which model, run, counted, logged."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import structlog

from ..kernel.errors import ErrorType, RaymillError, UnsupportedMedia, ValidationFailed
from .directory import Endpoint, Route
from .edge import Caller, Edge
from .errors import ClientGone, RequestTimedOut
from .exchange import Head, Header, Response, read_body
from .formats import Model
from .log import InferenceLog, Row, is_sampled, payload
from .metrics import Metrics
from .pool import Loaded, ModelPool
from .protocol import Answer, Target

log = structlog.get_logger(__name__)

Codec = Callable[[Target, Model, bytes, int | None], Answer]

_JSON = (b"content-type", b"application/json")
_OCTETS = (b"content-type", b"application/octet-stream")
_JSON_LENGTH = b"inference-header-content-length"


@dataclass(slots=True)
class Call:
    """An authorized request on its way."""

    head: Head
    caller: Caller
    endpoint: Endpoint
    route: Route
    started: float
    body: bytes = b""


class Invoker:
    """Answers inference requests of one model server."""

    def __init__(
        self,
        edge: Edge,
        pool: ModelPool,
        metrics: Metrics,
        inference_log: InferenceLog,
        runners: Executor,
        *,
        max_body_bytes: int,
    ) -> None:
        self._edge = edge
        self._pool = pool
        self._metrics = metrics
        self._log = inference_log
        self._runners = runners
        self._max_body_bytes = max_body_bytes

    def admit(self, head: Head, name: str) -> tuple[Caller, Endpoint]:
        """Return the caller and the endpoint that it may invoke.

        Raises:
            AuthenticationFailed: If the credential is missing or refused.
            NotFound: If there is no such endpoint for this caller.
            PermissionDenied: If the caller's project role does not include invoking.
        """
        headers = head.headers
        caller = self._edge.authenticate(headers.get(b"authorization"), headers.get(b"x-api-key"))
        return caller, self._edge.authorize(caller, name)

    async def invoke(self, head: Head, receive: Any, name: str, number: str | None, codec: Codec) -> Response:
        """Answer one inference request; counts and logs it, whatever becomes of it.

        Raises:
            RaymillError: If it is refused or fails.
        """
        started = time.perf_counter()
        caller, endpoint = self.admit(head, name)
        route = endpoint.route(number) if number is not None else endpoint.pick(self._traffic_key(head, endpoint))
        call = Call(head, caller, endpoint, route, started)
        try:
            answer = await self._answer(call, receive, codec)
        except ClientGone:
            raise
        except RaymillError as error:
            self._record(call, error.status, error.type, b"")
            raise
        except Exception:
            self._record(call, 500, ErrorType.INTERNAL_SERVER_ERROR, b"")
            raise
        self._record(call, 200, None, answer.body)
        return Response(200, answer.body, _headers(answer, route.header))

    @staticmethod
    def _traffic_key(head: Head, endpoint: Endpoint) -> bytes:
        if endpoint.sticky_header is None:
            return head.request_id
        return head.headers.get(endpoint.sticky_header) or head.request_id

    async def _answer(self, call: Call, receive: Any, codec: Codec) -> Answer:
        headers = call.head.headers
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMedia("The body must not be compressed.")
        json_length = _json_length(headers)
        call.body = body = await read_body(receive, headers, self._max_body_bytes)
        if json_length is not None and json_length > len(body):
            raise ValidationFailed("Inference-Header-Content-Length exceeds the length of the body.")
        loaded = self._pool.find(call.route.revision)
        if loaded is None or not loaded.pace.is_quick(len(body)):
            return await self._answer_slowly(call, loaded, codec, json_length)
        begun = time.perf_counter()
        answer = codec(call.route.target, loaded.model, body, json_length)
        loaded.pace.learn(len(body), time.perf_counter() - begun)
        return answer

    async def _answer_slowly(self, call: Call, loaded: Loaded | None, codec: Codec, json_length: int | None) -> Answer:
        seconds = call.endpoint.document.timeout_s
        try:
            async with asyncio.timeout(seconds):
                loaded = loaded or await self._pool.load(call.route.revision)
                return await self._run_in_thread(call, loaded, codec, json_length)
        except TimeoutError as error:
            raise RequestTimedOut(seconds) from error

    async def _run_in_thread(self, call: Call, loaded: Loaded, codec: Codec, json_length: int | None) -> Answer:
        def run() -> Answer:
            # The thread's own CPU time: what it waits for the interpreter's lock says nothing about the model.
            begun = time.thread_time()
            answer = codec(call.route.target, loaded.model, call.body, json_length)
            seconds.append(time.thread_time() - begun)
            return answer

        seconds: list[float] = []
        self._pool.hold(loaded)
        running = asyncio.get_running_loop().run_in_executor(self._runners, run)
        running.add_done_callback(lambda done: self._ran(done, call, loaded, seconds))
        # Shielded: a thread cannot be stopped, and the model stays held until it has ended.
        return await asyncio.shield(running)

    def _ran(self, done: asyncio.Future[Answer], call: Call, loaded: Loaded, seconds: list[float]) -> None:
        self._pool.release(loaded)
        if not done.cancelled():
            # Marks an error as seen; when the request timed out nobody else will look at it.
            done.exception()
        if seconds:
            loaded.pace.learn(len(call.body), seconds[0])

    def _record(self, call: Call, status: int, error: ErrorType | None, outputs: bytes) -> None:
        latency_s = time.perf_counter() - call.started
        document, head = call.endpoint.document, call.head
        self._metrics.record(call.route.meter, latency_s, error)
        sampled = is_sampled(document.log, head.request_id)
        self._log.append(
            # By position: naming the fields costs a microsecond.
            Row(
                time.time(),
                head.request_id,
                document.project_id,
                document.endpoint_id,
                document.key,
                call.route.revision.number,
                call.caller.id,
                latency_s,
                status,
                error,
                payload(call.body) if sampled else None,
                payload(outputs) if sampled else None,
            )
        )


def _json_length(headers: dict[bytes, bytes]) -> int | None:
    given = headers.get(_JSON_LENGTH)
    if given is None:
        return None
    if not given.isdigit():
        raise ValidationFailed("Inference-Header-Content-Length must be a whole number of bytes.")
    return int(given)


def _headers(answer: Answer, revision: Header) -> tuple[Header, ...]:
    if answer.json_length is None:
        return (_JSON, revision)
    return (_OCTETS, revision, (_JSON_LENGTH, b"%d" % answer.json_length))
