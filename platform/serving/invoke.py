"""One inference request from its head to its answer: who, which revision, which model, run, counted, logged."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import structlog

from ..kernel.errors import ErrorType, RaymillError, UnsupportedMedia
from .edge.access import STRANGER, Caller, Edge
from .edge.limits import RateLimits
from .errors import ClientGone, RateExceeded, RequestTimedOut
from .exchange import Head, Header, Response, read_body, while_there
from .formats import RunHalted
from .models.dedicated import DedicatedApps, arrays_of
from .models.inline import InlineRuns
from .models.lines import Codec, Line, Work
from .models.pool import Loaded, ModelPool
from .models.runners import Runners, Turns
from .protocol.first_request import first_request
from .protocol.v2 import JSON_LENGTH, Answer, Question, Target
from .published.directory import Endpoint, Route
from .records.log import InferenceLog, Row, is_sampled, payload
from .records.metrics import Metrics

log = structlog.get_logger(__name__)

Done = TypeVar("Done")

_JSON = (b"content-type", b"application/json")
_OCTETS = (b"content-type", b"application/octet-stream")
# A body of this size is read in a fraction of a millisecond; a larger one would hold up the event loop.
_READ_INLINE_BYTES = 1 << 16
_WARM_UP_REQUESTS = 2


@dataclass(slots=True)
class Call:
    """An authorized request on its way."""

    head: Head
    caller: Caller
    endpoint: Endpoint
    route: Route
    started: float
    body: bytes = b""

    def left_s(self) -> float:
        """Return how much of the endpoint's time limit is left."""
        return self.endpoint.document.timeout_s - (time.perf_counter() - self.started)


class Invoker:
    """Answers inference requests of one model server."""

    def __init__(
        self,
        edge: Edge,
        pool: ModelPool,
        metrics: Metrics,
        inference_log: InferenceLog,
        inline: InlineRuns,
        runners: Runners,
        apps: DedicatedApps,
        limits: RateLimits,
        *,
        max_body_bytes: int,
        max_queued: int,
    ) -> None:
        self._edge = edge
        self._pool = pool
        self._metrics = metrics
        self._log = inference_log
        self._inline = inline
        self._runners = runners
        self._apps = apps
        self._limits = limits
        self._turns = Turns(1)
        self._max_body_bytes = max_body_bytes
        self._max_queued = max_queued

    def admit(self, head: Head, name: str) -> tuple[Caller, Endpoint]:
        """Return the caller and the endpoint that it may invoke.

        Raises:
            AuthenticationFailed: If the credential is missing or refused.
            NotFound: If there is no such endpoint for this caller.
            PermissionDenied: If the caller's role, or the endpoint's access policy, does not let it invoke.
            RateLimited: If too many came from the address without a credential.
        """
        return self._edge.admit(head.headers, name, head.client)

    async def invoke(self, head: Head, receive: Any, name: str, number: str | None, codec: Codec) -> Response:
        """Answer one inference request; counts and logs it, unless its client leaves.

        Raises:
            RaymillError: If it is refused or fails.
        """
        started = time.perf_counter()
        caller, endpoint = self.admit(head, name)
        route = endpoint.route(number) if number is not None else endpoint.pick(self._traffic_key(head, endpoint))
        call = Call(head, caller, endpoint, route, started)
        counts: tuple[Header, ...] = ()
        try:
            if endpoint.document.rate_limit is not None:
                counts = await self.count(head, caller, endpoint)
            answer = await self._answer(call, receive, codec)
        except ClientGone:
            raise
        except RateExceeded as error:
            # Counted and not logged: a flood would push the rows of those who were answered out of the log.
            self._metrics.record(route.meter, time.perf_counter() - started, error.type)
            raise
        except RaymillError as error:
            self._record(call, error.status, error.type, b"")
            raise
        except Exception:
            self._record(call, 500, ErrorType.INTERNAL_SERVER_ERROR, b"")
            raise
        self._record(call, 200, None, answer.body)
        return Response(200, answer.body, _headers(answer, route.header) + counts)

    async def count(self, head: Head, caller: Caller, endpoint: Endpoint) -> tuple[Header, ...]:
        """Count a request against the endpoint's rate limit, and return the headers that tell what is left.

        Raises:
            RateExceeded: If it comes too soon.
        """
        document = endpoint.document
        if document.rate_limit is None:
            return ()
        return await self._limits.admit(document.endpoint_id, document.rate_limit, caller, head.client)

    async def warm(self, endpoint: Endpoint, route: Route) -> None:
        """Load a revision, however long that takes, and put its warm-up request to it.

        Raises:
            RaymillError: If it cannot be loaded or does not answer.
        """
        loaded = await self._pool.load(route.revision, route.meter) if route.revision.app is None else None
        codec, body, headers = first_request(route.revision)
        call = Call(Head("POST", "", headers, b"", ""), STRANGER, endpoint, route, 0.0, body)
        # The second answer shows how long the model takes once it has found its memory.
        for _ in range(_WARM_UP_REQUESTS):
            call.started = time.perf_counter()
            await self._answer_slowly(call, loaded, codec)

    @staticmethod
    def _traffic_key(head: Head, endpoint: Endpoint) -> bytes:
        if endpoint.sticky_header is None:
            return head.request_id
        return head.headers.get(endpoint.sticky_header) or head.request_id

    async def _answer(self, call: Call, receive: Any, codec: Codec) -> Answer:
        headers = call.head.headers
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMedia("The body must not be compressed.")
        within_s = call.endpoint.document.timeout_s
        call.body = body = await read_body(receive, headers, self._max_body_bytes, within_s=within_s)
        loaded = None if call.route.app else self._pool.find(call.route.revision)
        if loaded is not None and loaded.pace.is_quick(len(body)):
            try:
                return self._answer_at_once(call, loaded, codec)
            except RunHalted:
                log.warning("run_halted", endpoint=call.endpoint.name, revision=call.route.revision.number)
        async with while_there(receive):
            return await self._answer_slowly(call, loaded, codec)

    def _answer_at_once(self, call: Call, loaded: Loaded, codec: Codec) -> Answer:
        """Answer on the event loop.

        Raises:
            RunHalted: If that took much longer than it may.
        """
        begun = time.perf_counter()
        question = codec(call.route.target, call.body, call.head.headers)
        answer = question.answer(self._inline.run(loaded, question))
        self._inline.learn(loaded, len(call.body), time.perf_counter() - begun, answer)
        return answer

    async def _answer_slowly(self, call: Call, loaded: Loaded | None, codec: Codec) -> Answer:
        """Answer by a thread, after the model is loaded if need be; whoever is cancelled gives up its place."""
        document = call.endpoint.document
        most = self._max_queued if document.max_queued is None else document.max_queued
        if (app := call.route.app) is not None:
            return await self._answer_by_app(app, call, codec, most)
        work = Work(call.endpoint.room, most, call.route.meter, codec, call.route.target, call.body, call.head.headers)
        try:
            async with asyncio.timeout(call.left_s()):
                loaded = loaded or await self._pool.load(call.route.revision, call.route.meter)
                self.line_of(loaded).add(work, document.batching)
                return await work.future
        except TimeoutError as error:
            raise RequestTimedOut(document.timeout_s) from error
        finally:
            work.leave()

    async def _answer_by_app(self, app: str, call: Call, codec: Codec, most: int) -> Answer:
        target, meter, limit_s = call.route.target, call.route.meter, call.endpoint.document.timeout_s
        now = asyncio.get_running_loop().time
        ends = now() + call.left_s()
        read = partial(codec, target, call.body, call.head.headers)
        try:
            if _is_large(call.body):
                with call.endpoint.room.place(most, meter):
                    question = await self._in_turn(read, app, ends)
            else:
                question = read()
            given = await self._apps.run(app, meter, question, timeout_s=max(0.0, ends - now()), max_queued=most)
            word = partial(_worded, app, given, target, question)
            return await self._in_turn(word, app, ends) if _is_large(given) else word()
        except (TimeoutError, RequestTimedOut) as error:
            raise RequestTimedOut(limit_s) from error

    async def _in_turn(self, job: Callable[[], Done], app: str, ends: float) -> Done:
        """Do a long job in a thread, for each app one at a time; the turn ends with the thread, whoever still waits."""
        async with asyncio.timeout_at(ends):
            turn = self._turns.of(app)
            await turn.acquire()
            done = asyncio.get_running_loop().run_in_executor(self._runners.threads, job)
            done.add_done_callback(partial(_end_turn, turn))
            return await asyncio.shield(done)

    def line_of(self, loaded: Loaded) -> Line:
        """Return the line in which requests wait for the model's threads."""
        if loaded.line is None:
            hold, release = partial(self._pool.hold, loaded), partial(self._pool.release, loaded)
            loaded.line = Line(loaded.model, loaded.pace, self._runners, self._metrics, hold, release)
        return loaded.line

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
                call.route.redactions,
            )
        )


def _is_large(content: bytes) -> bool:
    return len(content) > _READ_INLINE_BYTES


def _end_turn(turn: asyncio.Semaphore, done: asyncio.Future[Any]) -> None:
    turn.release()
    if not done.cancelled():
        # Heard, also where nobody waits for it any more.
        done.exception()


def _worded(app: str, given: bytes, target: Target, question: Question) -> Answer:
    return question.answer(arrays_of(app, given, target, question))


def _headers(answer: Answer, revision: Header) -> tuple[Header, ...]:
    if answer.json_length is None:
        return (_JSON, revision)
    return (_OCTETS, revision, (JSON_LENGTH, b"%d" % answer.json_length))
