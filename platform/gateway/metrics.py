"""Prometheus metrics of the control plane."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest


class RequestMetrics:
    """Counts and latencies of the requests that one process answered."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("raymill_api_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            "raymill_api_request_seconds", "Seconds to answer", ("method", "route"), registry=self._registry
        )

        self._lost = Counter(
            "raymill_api_refusals_not_audited", "Refusals that the audit log lacks", registry=self._registry
        )

    def lose_refusals(self, count: int) -> None:
        """Count refusals that could not be written into the audit log."""
        self._lost.inc(count)

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is the template, so that ids make no labels."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)
