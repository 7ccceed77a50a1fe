"""The instruments, and the views that put a bucket boundary exactly on every threshold."""

from bisect import insort
from collections.abc import Sequence
from typing import Final

from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

from querywatch import semconv
from querywatch.settings import Settings

#: Seconds: the semantic conventions' advice for both durations, https://opentelemetry.io/docs/specs/semconv/.
_DB_BOUNDARIES: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_HTTP_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_QUERIES_BOUNDARIES: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class Instruments:
    """What QueryWatch counts itself."""

    def __init__(self, meter: Meter, settings: Settings) -> None:
        self.findings: Counter = meter.create_counter(
            semconv.METRIC_FINDINGS, "{finding}", "Findings by kind, severity and route."
        )
        self.request_queries: Histogram = meter.create_histogram(
            semconv.METRIC_REQUEST_QUERIES,
            "{query}",
            "Queries of one request.",
            explicit_bucket_boundaries_advisory=boundaries(_QUERIES_BOUNDARIES, settings.max_queries_per_request),
        )


def boundaries(usual: Sequence[float], *thresholds: float) -> list[float]:
    """Return the usual bucket boundaries and the thresholds, ascending, each once."""
    result = list(usual)
    for threshold in thresholds:
        if threshold not in result:
            insort(result, float(threshold))
    return result


def views(settings: Settings) -> list[View]:
    """Return the views: "the share of queries over 500 ms" is then exact in Prometheus, not interpolated."""
    return [
        _histogram(
            semconv.DB_CLIENT_OPERATION_DURATION,
            boundaries(_DB_BOUNDARIES, settings.slow_query_threshold, settings.critical_query_threshold),
        ),
        _histogram(semconv.HTTP_SERVER_REQUEST_DURATION, boundaries(_HTTP_BOUNDARIES, settings.slow_request_threshold)),
        _histogram(semconv.METRIC_REQUEST_QUERIES, boundaries(_QUERIES_BOUNDARIES, settings.max_queries_per_request)),
    ]


def _histogram(instrument: str, edges: Sequence[float]) -> View:
    return View(instrument_name=instrument, aggregation=ExplicitBucketHistogramAggregation(boundaries=edges))
