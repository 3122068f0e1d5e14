"""Live metrics in Prometheus' text format: of a project's endpoints, and of the model servers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ..serving.gauges import GAUGES, Gauges, read_gauges
from ..serving.metrics import BOUNDS, Counted, read_counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("endpoint", "revision")
_TOTAL = "_total"
# Each bound twice the last would be wanted; each third of those that are counted is nearly that.
_STEP = 3


class ScrapedEndpoint(NamedTuple):
    """An endpoint by its id and its name."""

    id: str
    name: str


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def endpoint_exposition(cache: redis.Redis, endpoints: Iterable[ScrapedEndpoint]) -> bytes:
    """Return requests, errors and latencies of endpoints, by revision.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    requests = CounterMetricFamily("raymill_endpoint_requests", "Requests answered", labels=_LABELS)
    errors = CounterMetricFamily("raymill_endpoint_errors", "Requests refused or failed", labels=(*_LABELS, "type"))
    latency = HistogramMetricFamily("raymill_endpoint_latency_seconds", "Seconds to the answer", labels=_LABELS)
    for endpoint in endpoints:
        for number, counted in read_counts(cache, endpoint.id).items():
            labels = (endpoint.name, number)
            requests.add_metric(labels, counted.requests)
            latency.add_metric(labels, _cumulated(counted), counted.seconds)
            for kind, count in counted.errors.items():
                errors.add_metric((*labels, kind), count)
    return _text([requests, errors, latency])


def server_exposition(cache: redis.Redis) -> bytes:
    """Return how the live model servers are; names no endpoint.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    return _text(_server_families(read_gauges(cache)))


def _server_families(servers: Mapping[str, Gauges]) -> Iterator[Metric]:
    for name, meaning in GAUGES.items():
        kind = CounterMetricFamily if name.endswith(_TOTAL) else GaugeMetricFamily
        family = kind(f"raymill_server_{name.removesuffix(_TOTAL)}", meaning, labels=("server",))
        for server, gauges in servers.items():
            if name in gauges:
                family.add_metric((server,), gauges[name])
        yield family


def _cumulated(counted: Counted) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    below = 0
    for index, count in enumerate(counted.buckets[:-1]):
        below += count
        if index % _STEP == _STEP - 1 or index == len(BOUNDS) - 1:
            buckets.append((f"{BOUNDS[index]:.6g}", below))
    return [*buckets, ("+Inf", below + counted.buckets[-1])]


def _text(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)
