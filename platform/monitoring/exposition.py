"""Live metrics in Prometheus' text format: of a project's endpoints, and of the model servers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from ..serving.records.gauges import GAUGES, Gauges, RevisionGauges, read_gauges, read_revision_gauges
from ..serving.records.metrics import BOUNDS, Counted, read_counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("endpoint", "revision")
_TOTAL = "_total"
# Each bound twice the last would be wanted; each third of those that are counted is nearly that.
_STEP = 3
# An endpoint may have had any number, and each is some thirty lines.
_MOST_REVISIONS = 20


class ScrapedEndpoint(NamedTuple):
    """An endpoint by its id and its name, and those of its revisions that have traffic."""

    id: str
    name: str
    serving: frozenset[str]


class _EndpointFamilies:
    """The families of metrics that have an endpoint and a revision."""

    def __init__(self) -> None:
        prefix = "raymill_endpoint_"
        self.requests = CounterMetricFamily(f"{prefix}requests", "Requests answered", labels=_LABELS)
        self.errors = CounterMetricFamily(f"{prefix}errors", "Requests refused or failed", labels=(*_LABELS, "type"))
        self.latency = HistogramMetricFamily(f"{prefix}latency_seconds", "Seconds to the answer", labels=_LABELS)
        self.batches = SummaryMetricFamily(
            f"{prefix}batch_size", "Requests that one call of the model in a thread answered", labels=_LABELS
        )
        self.loads = CounterMetricFamily(f"{prefix}loads", "Times that its model was loaded", labels=_LABELS)
        self.evictions = CounterMetricFamily(
            f"{prefix}evictions", "Times that its model was dropped to make room", labels=_LABELS
        )
        self.waiting = GaugeMetricFamily(
            f"{prefix}waiting", "Requests that wait for a model, a thread or a replica", labels=_LABELS
        )
        self.memory = GaugeMetricFamily(
            f"{prefix}model_bytes", "Bytes of its model in the memory of all servers", labels=_LABELS
        )

    def count(self, labels: tuple[str, str], counted: Counted) -> None:
        """Add what was counted of a revision."""
        self.requests.add_metric(labels, counted.requests)
        self.latency.add_metric(labels, _cumulated(counted), counted.seconds)
        for kind, count in counted.errors.items():
            self.errors.add_metric((*labels, kind), count)
        self.batches.add_metric(labels, counted.calls, counted.called)
        self.loads.add_metric(labels, counted.loads)
        self.evictions.add_metric(labels, counted.evictions)

    def measure(self, labels: tuple[str, str], gauges: RevisionGauges) -> None:
        """Add how a revision is just now."""
        self.waiting.add_metric(labels, gauges.waiting)
        self.memory.add_metric(labels, gauges.model_bytes)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def endpoint_exposition(cache: redis.Redis, endpoints: Iterable[ScrapedEndpoint]) -> bytes:
    """Return what is counted and measured of endpoints, by revision: of those with traffic and of the newest.

    Raises:
        CacheUnavailable: If Valkey does not answer.
    """
    families, scraped = _EndpointFamilies(), {endpoint.id: endpoint for endpoint in endpoints}
    for endpoint, revisions in zip(scraped.values(), read_counts(cache, [*scraped]), strict=True):
        newest = sorted(revisions, key=int)[-_MOST_REVISIONS:]
        for number in sorted({*newest, *(endpoint.serving & revisions.keys())}, key=int):
            families.count((endpoint.name, number), revisions[number])
    for (endpoint_id, revision), gauges in sorted(read_revision_gauges(cache).items()):
        if endpoint_id in scraped:
            families.measure((scraped[endpoint_id].name, str(revision)), gauges)
    return _text(vars(families).values())


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
