"""Calls to outside services: repeated where that may help, and not tried where it surely would not."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from pydantic import ValidationError

from raymill.kernel.errors import ErrorType, ExternalServiceError, NotFound, RateLimited, RaymillError
from raymill.kernel.resilience import CircuitBreakerConfig, CircuitOpen, OutsideService, RetryConfig


class Service:
    """Fails as often as it is told to, and counts its calls."""

    def __init__(self, failures: int, error: RaymillError | None = None) -> None:
        self.calls = 0
        self.failures = failures
        self.error = error or ExternalServiceError("away")

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def outside(
    pauses: list[float] | None = None,
    *,
    retry: RetryConfig | None = None,
    breaker: CircuitBreakerConfig | None = None,
    now: list[float] | None = None,
) -> OutsideService:
    clock = now or [0.0]
    record = pauses if pauses is not None else []
    return OutsideService("mail", retry=retry, breaker=breaker, sleep=record.append, monotonic=lambda: clock[0])


ONCE = RetryConfig(max_attempts=1)


def fail(service: OutsideService, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ExternalServiceError):
            service.call(Service(1))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("exponential", [1, 2, 4, 5]), ("linear", [1, 2, 3, 4]), ("fixed", [1, 1, 1, 1])],
)
def test_pauses_follow_the_strategy_up_to_the_longest(strategy: str, expected: list[float]) -> None:
    pauses: list[float] = []
    retry = RetryConfig.model_validate(
        {"max_attempts": 5, "backoff_strategy": strategy, "base_delay": 1.0, "max_delay": 5.0}
    )
    assert outside(pauses, retry=retry).call(Service(4)) == "done"
    assert pauses == pytest.approx(expected, abs=0.1)
    assert max(pauses) <= 5.0


def test_the_last_attempt_tells_why() -> None:
    service = Service(9)
    with pytest.raises(ExternalServiceError, match="away"):
        outside(retry=RetryConfig(max_attempts=3)).call(service)
    assert service.calls == 3


def test_only_retryable_errors_are_tried_again() -> None:
    missing, limited = Service(1, NotFound("gone")), Service(1, RateLimited("slow down"))
    retry = RetryConfig(retryable_errors=frozenset({ErrorType.RATE_LIMIT_EXCEEDED}))
    with pytest.raises(NotFound):
        outside(retry=retry).call(missing)
    assert outside(retry=retry).call(limited) == "done"
    assert (missing.calls, limited.calls) == (1, 2)


def test_what_must_not_happen_twice_is_tried_once() -> None:
    service = Service(1)
    with pytest.raises(ExternalServiceError):
        outside().call(service, may_repeat=False)
    assert service.calls == 1


def test_a_circuit_opens_after_failures_in_a_row_and_calls_nothing_more() -> None:
    service = outside(retry=ONCE, breaker=CircuitBreakerConfig(failure_threshold=3, recovery_timeout=30))
    fail(service, 3)
    untouched = Service(0)
    with pytest.raises(CircuitOpen) as refused:
        service.call(untouched)
    assert untouched.calls == 0
    assert refused.value.retry_after_s in (29, 30)
    assert "mail" in refused.value.message


def test_an_open_circuit_is_not_waited_for() -> None:
    pauses: list[float] = []
    service = outside(pauses, breaker=CircuitBreakerConfig(failure_threshold=2), retry=RetryConfig(max_attempts=5))
    with pytest.raises(CircuitOpen):
        service.call(Service(9))
    assert len(pauses) == 2


def test_a_success_between_failures_keeps_the_circuit_closed() -> None:
    service = outside(retry=ONCE, breaker=CircuitBreakerConfig(failure_threshold=2))
    fail(service)
    assert service.call(Service(0)) == "done"
    fail(service)
    assert service.call(Service(0)) == "done"


def test_failures_before_the_period_do_not_count() -> None:
    now = [0.0]
    breaker = CircuitBreakerConfig(failure_threshold=2, monitoring_period=60)
    service = outside(retry=ONCE, breaker=breaker, now=now)
    fail(service)
    now[0] = 61.0
    fail(service)
    assert service.call(Service(0)) == "done"


def test_a_refusal_is_an_answer_and_opens_nothing() -> None:
    service = outside(retry=ONCE, breaker=CircuitBreakerConfig(failure_threshold=1))
    for _ in range(3):
        with pytest.raises(NotFound):
            service.call(Service(1, NotFound("gone")))
    assert service.call(Service(0)) == "done"


def test_after_the_recovery_time_one_success_closes() -> None:
    service = outside(retry=ONCE, breaker=CircuitBreakerConfig(failure_threshold=2, recovery_timeout=0))
    fail(service, 2)
    assert service.call(Service(0)) == "done"
    fail(service)
    assert service.call(Service(0)) == "done"


def test_after_the_recovery_time_one_failure_opens_again() -> None:
    now = [0.0]
    breaker = CircuitBreakerConfig(failure_threshold=2, recovery_timeout=30)
    service = outside(retry=ONCE, breaker=breaker, now=now)
    fail(service, 2)
    trial = Service(1)
    for moment, calls in ((29.0, 0), (31.0, 1), (60.0, 1)):
        now[0] = moment
        with pytest.raises(ExternalServiceError):
            service.call(trial)
        assert trial.calls == calls
    now[0] = 62.0
    assert service.call(trial) == "done"


def test_a_service_is_asked_by_many_at_once() -> None:
    service, together = outside(), Barrier(4, timeout=5)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: service.call(together.wait), range(4)))) == 4


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        RetryConfig.model_validate({"max_attempts": 0})
    with pytest.raises(ValidationError):
        CircuitBreakerConfig.model_validate({"failureThreshold": 3})
