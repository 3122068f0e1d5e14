"""One HTTP connection to a platform: credentials, request ids, retries, errors.

A call is tried again when that cannot do harm: the method is idempotent, an Idempotency-Key goes with it, or whoever
makes the call says that it is `repeatable`; the connection was never made; or the platform refused it for its rate.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx
from httpx_sse import EventSource

from .errors import AuthenticationFailed, ConnectionLost, ExternalServiceError, RateLimited, RaymillError, error_from

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_LONGEST_PAUSE_S = 10.0

Query = dict[str, str | int | float | bool | None]


class Credential(Protocol):
    """Something that puts a login on a request and may be able to renew it."""

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the login."""

    def renew(self, refresh: "Refresh", refused: dict[str, str]) -> bool:
        """Get a new login after ``refused`` headers were answered 401; tell whether there is one."""


Refresh = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class FixedCredential:
    """A token or an API key that stays as it is."""

    token: str | None = None
    api_key: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the login."""
        if self.api_key is not None:
            return {"X-API-Key": self.api_key}
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def renew(self, refresh: Refresh, refused: dict[str, str]) -> bool:
        """A fixed login is never renewed."""
        return False


@dataclass(frozen=True)
class Retries:
    """How often a call is tried, and the pauses in between in seconds."""

    attempts: int = 4
    first_pause_s: float = 0.2
    sleep: Callable[[float], None] = time.sleep

    def pause(self, attempt: int, asked_s: float | None) -> None:
        """Wait before the attempt that follows this one (counted from 1), at least as long as was asked."""
        pause_s = self.first_pause_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 -- jitter
        self.sleep(min(max(pause_s, asked_s or 0.0), _LONGEST_PAUSE_S))


@dataclass(frozen=True)
class Call:
    """A request that can be sent more than once."""

    method: str
    path: str
    params: Query = field(default_factory=dict)
    json: Any = None
    content: bytes | Path | None = None
    headers: dict[str, str] = field(default_factory=dict)
    repeatable: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.repeatable or self.method in _IDEMPOTENT or "Idempotency-Key" in self.headers


class Transport:
    """Sends calls; every failure leaves as a ``RaymillError``."""

    def __init__(
        self,
        base_url: str,
        credential: Credential,
        *,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        request_id: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._credential = credential
        self._retries = retries or Retries()
        self._client = httpx.Client(
            base_url=base_url.rstrip("/"),
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            headers={"X-Request-ID": request_id} if request_id else {},
            transport=transport,
        )

    @property
    def base_url(self) -> str:
        """URL of the platform without a trailing slash."""
        return str(self._client.base_url).rstrip("/")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def request(self, method: str, path: str, *, once: str | None = None, **parts: Any) -> httpx.Response:
        """Send a call and return its answer of status 2xx.

        Args:
            method: The HTTP method.
            path: Path below the platform's URL.
            once: Idempotency-Key; a POST that has one is tried again when its answer is lost.
            **parts: ``params``, ``json``, ``content`` (bytes or a file's path), ``headers``, and ``repeatable`` for
                a POST or PATCH that does no more when sent twice than when sent once.

        Raises:
            RaymillError: By the error's type; ``ConnectionLost`` when there is no answer.
        """
        headers = parts.pop("headers", {}) | ({"Idempotency-Key": once} if once else {})
        return self._send(Call(method, path, headers=headers, **parts))

    def document(self, method: str, path: str, **parts: Any) -> Any:
        """Send a call and return the JSON of its answer."""
        return self.request(method, path, **parts).json()

    def items(self, path: str, params: Query | None = None) -> Iterator[Any]:
        """Walk through all pages of a list."""
        query = {key: value for key, value in (params or {}).items() if value is not None}
        while True:
            page = self.document("GET", path, params=query)
            yield from page["items"]
            if page.get("next_cursor") is None:
                return
            query["cursor"] = page["next_cursor"]

    def events(self, path: str, params: Query | None = None) -> Iterator[tuple[str, Any]]:
        """Walk through the names and contents of server-sent events, until the platform ends the stream."""
        call = Call("GET", path, params=params or {})
        with _translated(), self._client.stream(**self._parts(call)) as response:
            if response.is_error:
                response.read()
            _checked(response)
            for event in EventSource(response).iter_sse():
                yield event.event, event.json()

    def download(self, path: str, target: Path) -> None:
        """Stream an answer's body into a file, whole or not at all."""
        partial = target.with_name(f".{target.name}.{uuid4().hex}")
        try:
            self._repeat(Call("GET", path), lambda call: self._download(call, partial))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _send(self, call: Call) -> httpx.Response:
        return self._repeat(call, self._exchange)

    def _repeat(self, call: Call, exchange: Callable[[Call], httpx.Response]) -> httpx.Response:
        for attempt in range(1, self._retries.attempts + 1):
            try:
                return self._renewing(call, exchange)
            except RaymillError as error:
                if attempt == self._retries.attempts or not _may_repeat(call, error):
                    raise
                self._retries.pause(attempt, error.retry_after_s)
        raise AssertionError("the last attempt returns or raises")

    def _renewing(self, call: Call, exchange: Callable[[Call], httpx.Response]) -> httpx.Response:
        used = self._credential.headers()
        try:
            return exchange(call)
        except AuthenticationFailed:
            if not self._credential.renew(self._refresh, used):
                raise
        return exchange(call)

    def _refresh(self, refresh_token: str) -> dict[str, Any]:
        answer = self._exchange(Call("POST", "/api/v1/auth/refresh", json={"refresh_token": refresh_token}))
        tokens: dict[str, Any] = answer.json()
        return tokens

    def _exchange(self, call: Call) -> httpx.Response:
        with _translated(), _opened(call.content) as content:
            response = self._client.request(**self._parts(call), content=content, json=call.json)
            return _checked(response)

    def _download(self, call: Call, target: Path) -> httpx.Response:
        with _translated(), self._client.stream(**self._parts(call)) as response:
            if response.is_error:
                response.read()
            _checked(response)
            with target.open("wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
            return response

    def _parts(self, call: Call) -> dict[str, Any]:
        params = {key: value for key, value in call.params.items() if value is not None}
        headers = self._credential.headers() | call.headers
        return {"method": call.method, "url": call.path, "params": params, "headers": headers}


def _may_repeat(call: Call, error: RaymillError) -> bool:
    if isinstance(error, RateLimited) or isinstance(error.__cause__, httpx.ConnectError):
        return True
    return call.is_repeatable and isinstance(error, ExternalServiceError)


def _checked(response: httpx.Response) -> httpx.Response:
    if not response.is_success:
        raise error_from(response)
    return response


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ConnectionLost(f"The platform does not answer: {error or type(error).__name__}.") from error


@contextmanager
def _opened(content: bytes | Path | None) -> Iterator[Any]:
    if isinstance(content, Path):
        with content.open("rb") as file:
            yield file
    else:
        yield content
