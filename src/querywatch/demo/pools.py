"""Connection pools as the received metrics and findings tell of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from querywatch import semconv
from querywatch.demo.finding import Finding
from querywatch.demo.telemetry import MetricPoint

#: The metrics of a pool by their names.
Points = dict[str, list[MetricPoint]]

QUANTILE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool. None: no such value was received. Times are seconds.

    `peak` is the highest utilisation received (0 to 1), `maximum` the connections that it may open, `checkouts` how
    often one was asked for, `wait_p95` the time within which 95 % of these got theirs, `health` 0 to 1, the last value.
    """

    name: str
    peak: float | None
    maximum: int | None
    checkouts: int
    wait_p95: float | None
    timeouts: int
    leaks: tuple[Finding, ...]
    health: float | None


def pools(points: Iterable[MetricPoint], findings: Sequence[Finding]) -> tuple[Pool, ...]:
    """Return every pool that metrics came of, the least healthy first."""
    by_pool: dict[str, Points] = defaultdict(lambda: defaultdict(list))
    for point in points:
        name = point.attributes.get(semconv.DB_CLIENT_CONNECTION_POOL_NAME)
        if name is not None:
            by_pool[name][point.name].append(point)
    leaks = [finding for finding in findings if finding.kind == "connection_leak"]
    found = (_pool(name, metrics, leaks) for name, metrics in by_pool.items())
    return tuple(sorted(found, key=lambda pool: (1.0 if pool.health is None else pool.health, pool.name)))


def _pool(name: str, metrics: Points, leaks: Iterable[Finding]) -> Pool:
    waits = _newest(metrics.get(semconv.DB_CLIENT_CONNECTION_WAIT_TIME, ()))
    timeouts = _newest(metrics.get(semconv.DB_CLIENT_CONNECTION_TIMEOUTS, ()))
    maximum, health = (
        [point.value for point in _newest(metrics.get(metric, ())) if point.value is not None]
        for metric in (semconv.DB_CLIENT_CONNECTION_MAX, semconv.METRIC_POOL_HEALTH)
    )
    utilization = metrics.get(semconv.METRIC_POOL_UTILIZATION, ())
    return Pool(
        name=name,
        peak=max((point.value for point in utilization if point.value is not None), default=None),
        maximum=int(sum(maximum)) if maximum else None,
        checkouts=sum(point.count for point in waits),
        wait_p95=quantile(waits, QUANTILE),
        timeouts=int(sum(point.value or 0 for point in timeouts)),
        leaks=tuple(leak for leak in leaks if leak.attributes.get(semconv.DB_CLIENT_CONNECTION_POOL_NAME) == name),
        health=min(health, default=None),
    )


def _newest(points: Iterable[MetricPoint]) -> list[MetricPoint]:
    """Return the last point of each cumulative series; every process has its own."""
    series = {
        (str(point.origin.resource.get("service.instance.id")), *sorted(point.attributes.items())): point
        for point in points
    }
    return list(series.values())


def quantile(histograms: Sequence[MetricPoint], share: float) -> float | None:
    """Return the value below which a `share` of all measurements lies, None without any.

    As Prometheus' `histogram_quantile`: measurements are thought of as spread evenly over their bucket, and those
    above the last boundary as lying on it.
    """
    bounds = histograms[0].bounds if histograms else ()
    alike = [histogram.bucket_counts for histogram in histograms if histogram.bounds == bounds]
    counts = [sum(column) for column in zip(*alike, strict=True)]
    rank = share * sum(counts)
    for index, reached in enumerate(accumulate(counts)):
        if counts[index] and reached >= rank:
            return _within(bounds, index, (rank - (reached - counts[index])) / counts[index])
    return None


def _within(bounds: Sequence[float], index: int, share: float) -> float:
    """Return the value at that share of a bucket."""
    if index >= len(bounds):
        return bounds[-1]
    lower = bounds[index - 1] if index else 0.0
    return lower + (bounds[index] - lower) * share
