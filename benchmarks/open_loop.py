"""Open-loop load: requests are sent when they are due, whatever became of those before, and latency counts from then.

A loop of its own around ``select``, whose timeout counts microseconds; those of event loops count milliseconds.
Requests are due at equal distances, as in wrk2. One for which no connection is free opens one more.
"""

import gc
import re
import select
import socket
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit

from load import BenchmarkFailed, Target

MOST_CONNECTIONS = 512
PATIENCE_S = 10.0
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")


@dataclass(frozen=True)
class Arrivals:
    """What came of a stretch of load: seconds from when requests were due until they were sent and answered, sorted."""

    sent: list[float]
    answered: list[float]
    connections: int

    def answered_ms(self, share: float) -> float:
        """Return the milliseconds that this share of the requests were answered within."""
        return 1000 * _within(self.answered, share)

    def sent_ms(self, share: float) -> float:
        """Return the milliseconds that this share of the requests were sent within."""
        return 1000 * _within(self.sent, share)


def _within(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


class OpenLoop:
    """Sends one request of a target, again and again, over connections that stay open."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._address = (parts.hostname or "", parts.port or 80)
        body, credential = target.body.read_bytes(), target.credential.read_text().strip()
        headers = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(body))}
        headers |= {"Authorization": credential} if credential else {}
        lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self._request = "\r\n".join(lines).encode() + body
        self._opened = 0

    def run(self, per_second: float, seconds: float) -> Arrivals:
        """Load the target.

        Raises:
            BenchmarkFailed: If an answer is not 200, or too late.
        """
        gc.disable()
        try:
            return self._run(per_second, round(per_second * seconds))
        finally:
            gc.enable()

    def _run(self, per_second: float, count: int) -> Arrivals:
        idle, busy, self._opened = [self._connect() for _ in range(16)], {}, 16
        sent, answered, number = [], [], 0
        begun = perf_counter() + 0.01
        while number < count or busy:
            while number < count and perf_counter() >= begun + number / per_second:
                connection = self._free(idle)
                if connection is None:
                    break
                connection.begin(begun + number / per_second, self._request)
                sent.append(perf_counter() - connection.due)
                busy[connection.socket.fileno()] = connection
                number += 1
            for file in self._ready(busy, begun + number / per_second if number < count else None):
                if busy[file].read():
                    connection = busy.pop(file)
                    answered.append(perf_counter() - connection.due)
                    idle.append(connection)
        for connection in idle:
            connection.socket.close()
        return Arrivals(sorted(sent), sorted(answered), self._opened)

    def _ready(self, busy: "dict[int, _Connection]", due: float | None) -> list[int]:
        patience = PATIENCE_S if due is None else max(0.0, due - perf_counter())
        ready, _, _ = select.select(list(busy), [], [], patience)
        # The first is the one that was sent first.
        if busy and perf_counter() - next(iter(busy.values())).due > PATIENCE_S:
            raise BenchmarkFailed(f"{len(busy)} requests were not answered within {PATIENCE_S:g} s.")
        return ready

    def _free(self, idle: "list[_Connection]") -> "_Connection | None":
        if idle:
            return idle.pop()
        if self._opened == MOST_CONNECTIONS:
            return None
        self._opened += 1
        return self._connect()

    def _connect(self) -> "_Connection":
        return _Connection(socket.create_connection(self._address, timeout=PATIENCE_S))


class _Connection:
    __slots__ = ("_left", "_seen", "due", "socket")

    def __init__(self, opened: socket.socket) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = opened
        self.due = 0.0
        self._seen = b""
        #: Bytes that are missing; None until the head is there.
        self._left: int | None = None

    def begin(self, due: float, request: bytes) -> None:
        """Send a request."""
        self.due, self._seen, self._left = due, b"", None
        self.socket.sendall(request)

    def read(self) -> bool:
        """Take what has come; tell whether the answer is whole."""
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise BenchmarkFailed("A connection was closed before the answer was whole.")
        if self._left is None:
            self._seen += piece
            head, end, rest = self._seen.partition(b"\r\n\r\n")
            if not end:
                return False
            self._left = _length_of(head) - len(rest)
        else:
            self._left -= len(piece)
        return self._left <= 0


def _length_of(head: bytes) -> int:
    length = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise BenchmarkFailed(f"An answer is not 200: {head[:300]!r}")
    return int(length[1])
