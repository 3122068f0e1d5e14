"""Open-loop load on an endpoint: so many predictions a second whatever becomes of them, and what came of each."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

PER_SECOND, CONNECTIONS = 20.0, 256
# As long as a client would wait.
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """One request: when it was due, sent and answered (seconds of the monotonic clock), and what came of it."""

    due: float
    sent: float
    answered: float
    outcome: str
    revision: str
    request_id: str

    @property
    def is_good(self) -> bool:
        """Whether it was answered 200."""
        return self.outcome == "200"


@dataclass
class Load:
    """What came of the predictions so far, in the order of their answers."""

    predictions: list[Prediction] = field(default_factory=list)

    def failures(self) -> list[Prediction]:
        """The predictions that were not answered 200."""
        return [each for each in list(self.predictions) if not each.is_good]

    def good_since(self, moment: float) -> int:
        """How many predictions that were sent after the moment were answered 200."""
        good = 0
        for each in reversed(self.predictions):
            if each.answered < moment:
                break
            good += each.is_good and each.sent >= moment
        return good

    def outage_s(self) -> float:
        """Seconds from when the first failure was sent to when the last was answered; 0 if none failed."""
        failed = self.failures()
        return max(each.answered for each in failed) - min(each.sent for each in failed) if failed else 0.0

    def latency_ms(self, share: float) -> float:
        """Latency that this share of the good answers kept to, counted from when the requests were due."""
        took = sorted(each.answered - each.due for each in list(self.predictions) if each.is_good)
        return 1000 * took[min(len(took) - 1, int(share * len(took)))]

    def figures(self) -> dict[str, float]:
        """What is worth keeping of it."""
        return {
            "requests": len(self.predictions),
            "failed": len(self.failures()),
            "p50 ms": self.latency_ms(0.5),
            "p99 ms": self.latency_ms(0.99),
        }


@contextmanager
def open_load(
    url: str, *, headers: dict[str, str], body: Any, per_second: float = PER_SECOND, warm_up_s: float = 1.0
) -> Iterator[Load]:
    """Predict all the while, from a thread, until the block ends; some good answers came before it begins."""
    load, stopping = Load(), threading.Event()
    generator = _Generator(load, stopping, url, body, per_second)
    thread = threading.Thread(target=lambda: asyncio.run(generator.run(headers)), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while load.good_since(0) < per_second * warm_up_s and time.monotonic() < deadline:
            time.sleep(0.05)
        assert load.good_since(0) >= per_second * warm_up_s, load.predictions[-5:]
        load.predictions.clear()
        yield load
    finally:
        stopping.set()
        thread.join(2 * PATIENCE_S)


class _Generator:
    """Sends each request when it is due, however many are still on their way."""

    def __init__(self, load: Load, stopping: threading.Event, url: str, body: Any, per_second: float) -> None:
        self._load = load
        self._stopping = stopping
        self._url = url
        self._body = body
        self._period_s = 1 / per_second

    async def run(self, headers: dict[str, str]) -> None:
        """Send until told to stop, and wait for what is on its way."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        patience = aiohttp.ClientTimeout(total=PATIENCE_S)
        sent: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=patience) as session:
            due = time.monotonic()
            while not self._stopping.is_set():
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._predict(session, due))
                sent.add(task)
                task.add_done_callback(sent.discard)
                due += self._period_s
            await asyncio.gather(*sent)

    async def _predict(self, session: aiohttp.ClientSession, due: float) -> None:
        request_id, sent, revision = uuid4().hex, time.monotonic(), ""
        try:
            async with session.post(self._url, json=self._body, headers={"X-Request-ID": request_id}) as answer:
                revision = answer.headers.get("X-Raymill-Revision", "")
                await answer.read()
                outcome = str(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = type(error).__name__
        self._load.predictions.append(Prediction(due, sent, time.monotonic(), outcome, revision, request_id))
