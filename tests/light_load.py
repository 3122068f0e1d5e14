"""Light load on an endpoint: some predictions a second from threads of their own, and what came of each."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

THREADS, PER_SECOND = 4, 20


@dataclass(frozen=True)
class Prediction:
    """One request: when it was sent and answered (seconds of the monotonic clock), and its status or error."""

    sent: float
    answered: float
    outcome: str

    @property
    def is_good(self) -> bool:
        """Whether it was answered 200."""
        return self.outcome == "200"


@dataclass
class Load:
    """What came of the predictions so far."""

    predictions: list[Prediction] = field(default_factory=list)

    def failures(self) -> list[Prediction]:
        """The predictions that were not answered 200."""
        return [each for each in self.predictions if not each.is_good]

    def good_since(self, moment: float) -> int:
        """How many predictions that were sent after the moment were answered 200."""
        return sum(each.is_good and each.sent >= moment for each in list(self.predictions))

    def outage_s(self) -> float:
        """Seconds from when the first failure was sent to when the last was answered; 0 if none failed."""
        failed = self.failures()
        return max(each.answered for each in failed) - min(each.sent for each in failed) if failed else 0.0


@contextmanager
def light_load(url: str, *, headers: dict[str, str], body: Any) -> Iterator[Load]:
    """Predict about 20 times a second until the block ends, which has seen some good answers before it begins."""
    load, stopping = Load(), threading.Event()
    threads = [
        threading.Thread(target=_predict, args=(load, stopping, url, headers, body), daemon=True)
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + 30
        while load.good_since(0) < PER_SECOND and time.monotonic() < deadline:
            time.sleep(0.05)
        assert load.good_since(0) >= PER_SECOND, load.predictions
        load.predictions.clear()
        yield load
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)


def _predict(load: Load, stopping: threading.Event, url: str, headers: dict[str, str], body: Any) -> None:
    with httpx.Client(headers=headers, timeout=30.0, trust_env=False) as client:
        while not stopping.wait(THREADS / PER_SECOND):
            sent = time.monotonic()
            try:
                outcome = str(client.post(url, json=body).status_code)
            except httpx.HTTPError as error:
                outcome = type(error).__name__
            load.predictions.append(Prediction(sent, time.monotonic(), outcome))
