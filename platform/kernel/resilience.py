"""How calls to outside services are repeated, and when they are not even tried.

Retries are tenacity's and breakers are pybreaker's; a breaker belongs to one service and one process.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Literal, TypeVar

import pybreaker
import structlog
from pydantic import BaseModel, ConfigDict, Field
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential, wait_fixed, wait_incrementing, wait_random

from .errors import ErrorType, ExternalServiceError, RaymillError

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


class RetryConfig(BaseModel):
    """How often a call is tried, and the pauses in between; delays in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_attempts: int = Field(3, ge=1)
    backoff_strategy: Literal["exponential", "linear", "fixed"] = "exponential"
    base_delay: float = Field(0.1, ge=0)
    max_delay: float = Field(2.0, ge=0)
    retryable_errors: frozenset[ErrorType] = frozenset({ErrorType.EXTERNAL_SERVICE_ERROR})


class CircuitBreakerConfig(BaseModel):
    """When a service that fails is left alone, and for how long; times in seconds.

    The circuit opens after ``failure_threshold`` failures in a row within ``monitoring_period``; after
    ``recovery_timeout`` one call is let through, whose success closes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    failure_threshold: int = Field(5, ge=1)
    recovery_timeout: float = Field(30.0, ge=0)
    monitoring_period: float = Field(60.0, gt=0)


class CircuitOpen(ExternalServiceError):
    """Raised instead of calling a service that failed too often a moment ago."""

    def __init__(self, service: str, retry_after_s: int) -> None:
        super().__init__(
            f"{service} failed repeatedly and is left alone for a moment; try again in {retry_after_s} s.",
            retry_after_s=retry_after_s,
        )


class OutsideService:
    """A service outside of the platform, called with retries behind a circuit breaker; safe for threads."""

    def __init__(
        self,
        name: str,
        *,
        retry: RetryConfig | None = None,
        breaker: CircuitBreakerConfig | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._retry = retry or RetryConfig()
        self._config = breaker or CircuitBreakerConfig()
        self._sleep = sleep
        self._storage = _Failures(self._config.monitoring_period, monotonic)
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=self._config.failure_threshold,
            reset_timeout=self._config.recovery_timeout,
            exclude=[_is_an_answer],
            state_storage=self._storage,
            name=name,
            throw_new_error_on_trip=False,
            listeners=[_Teller()],
        )

    def call(self, action: Callable[[], Answer], *, may_repeat: bool = True) -> Answer:
        """Return what ``action`` returns, trying it again where that may help.

        Args:
            action: One exchange with the service; raises a `RaymillError` when it fails.
            may_repeat: False for what must not happen twice.

        Raises:
            CircuitOpen: If the service is left alone for now.
            RaymillError: What the last attempt raised.
        """
        attempts = Retrying(
            stop=stop_after_attempt(self._retry.max_attempts if may_repeat else 1),
            wait=_pauses(self._retry),
            retry=retry_if_exception(self._is_worth_another),
            sleep=self._sleep,
            reraise=True,
        )
        answer: Answer = attempts(self._once, action)
        return answer

    def _once(self, action: Callable[[], Answer]) -> Answer:
        try:
            # Its `call` would let in one at a time; this holds no lock while the service is asked.
            with self._breaker.calling():
                return action()
        except pybreaker.CircuitBreakerError:
            raise CircuitOpen(self.name, self._seconds_left()) from None

    def _is_worth_another(self, error: BaseException) -> bool:
        is_retryable = isinstance(error, RaymillError) and error.type in self._retry.retryable_errors
        return is_retryable and not isinstance(error, CircuitOpen)

    def _seconds_left(self) -> int:
        opened_at = self._storage.opened_at or datetime.now(UTC)
        passed = (datetime.now(UTC) - opened_at).total_seconds()
        return max(1, round(self._config.recovery_timeout - passed))


def _is_an_answer(error: BaseException) -> bool:
    """Say whether the service works, and only the request was wrong."""
    return isinstance(error, RaymillError) and not isinstance(error, ExternalServiceError)


def _pauses(config: RetryConfig) -> Callable[[RetryCallState], float]:
    base, most = config.base_delay, config.max_delay
    waits: dict[str, wait_base] = {
        "exponential": wait_exponential(multiplier=base, max=most),
        "linear": wait_incrementing(start=base, increment=base, max=most),
        "fixed": wait_fixed(min(base, most)),
    }
    # A tenth more or less, so that many callers do not come back at the same moment.
    jitter = wait_random(-base / 10, base / 10)
    wait = waits[config.backoff_strategy]
    return lambda state: min(most, max(0.0, wait(state) + jitter(state)))


class _Failures(pybreaker.CircuitMemoryStorage):
    """Counts only the failures of the last period, by a clock that nobody sets."""

    def __init__(self, period_s: float, monotonic: Callable[[], float]) -> None:
        super().__init__(pybreaker.STATE_CLOSED)
        self._period_s = period_s
        self._monotonic = monotonic
        self._moments: list[float] = []
        self._opened: float | None = None
        self._lock = Lock()

    @property
    def opened_at(self) -> datetime | None:
        """When the circuit opened, told in the wall clock's time of now, which the breaker compares it with."""
        if self._opened is None:
            return None
        return datetime.now(UTC) - timedelta(seconds=self._monotonic() - self._opened)

    @opened_at.setter
    def opened_at(self, _: datetime) -> None:
        self._opened = self._monotonic()

    def increment_counter(self) -> None:
        now = self._monotonic()
        with self._lock:
            self._moments = [moment for moment in self._moments if moment > now - self._period_s] + [now]

    def reset_counter(self) -> None:
        with self._lock:
            self._moments = []

    @property
    def counter(self) -> int:
        return len(self._moments)


class _Teller(pybreaker.CircuitBreakerListener):
    """Writes a line when a circuit opens or closes."""

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        log.warning("circuit_changed", service=cb.name, state=new_state.name)


__all__ = ["CircuitBreakerConfig", "CircuitOpen", "OutsideService", "RetryConfig"]
