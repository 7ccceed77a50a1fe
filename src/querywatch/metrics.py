"""The instruments, and the views that put a bucket boundary exactly on every threshold."""

import contextlib
import os
from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View

from querywatch import semconv
from querywatch.guard import guarded
from querywatch.settings import Settings
from querywatch.sql import Statement

#: Values of `db.query.summary` that are told apart in metrics; later ones are `other`.
MAX_SUMMARIES: Final = 200
_MAX_LATE: Final = 4096
#: No span: otherwise the SDK takes the current one of whoever collects.
_NOWHERE: Final = Context()

#: Seconds: the semantic conventions' advice for both durations, https://opentelemetry.io/docs/specs/semconv/.
_DB_BOUNDARIES: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_HTTP_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_QUERIES_BOUNDARIES: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


#: What tells queries apart in a bounded number of ways; `db.query.text` and parameters don't.
_DB_ATTRIBUTES: Final = {
    *(semconv.DB_SYSTEM_NAME, semconv.DB_NAMESPACE, semconv.DB_OPERATION_NAME, semconv.DB_QUERY_SUMMARY),
    *("db.collection.name", "db.stored_procedure.name", "db.response.status_code", semconv.ERROR_TYPE),
    *(semconv.SERVER_ADDRESS, semconv.SERVER_PORT),
}


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


class Late:
    """A histogram whose values are recorded when somebody collects: not in the request path, where each costs 8 us.

    Nothing is lost: where the buffer is full, each new value has the oldest one recorded.
    """

    def __init__(self, meter: Meter, name: str, unit: str, description: str, edges: Sequence[float]) -> None:
        self._histogram = meter.create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=list(edges)
        )
        self._values: deque[tuple[float, Mapping[str, str | int], Context | None]] = deque()
        os.register_at_fork(after_in_child=self._values.clear)
        # The SDK asks all callbacks before it gathers histograms: what they record is in the same collection. An
        # instrument that has never observed anything is not exported.
        meter.create_observable_gauge(f"{name}.late", [self._collecting])

    def record(self, value: float, attributes: Mapping[str, str | int], context: Context | None = None) -> None:
        """Keep `value`; `context` holds the span of its exemplar."""
        self._values.append((value, attributes, context or _NOWHERE))
        if len(self._values) > _MAX_LATE:
            self._record_oldest()

    def flush(self) -> None:
        """Record what was kept. Threads may do this at once: each value is taken by one of them."""
        while self._values:
            self._record_oldest()

    def _record_oldest(self) -> None:
        with contextlib.suppress(IndexError):
            value, attributes, context = self._values.popleft()
            self._histogram.record(value, attributes, context)

    def _collecting(self, _: CallbackOptions) -> Iterable[Observation]:
        self._guarded_flush()
        return ()

    @guarded
    def _guarded_flush(self) -> None:
        self.flush()


class OperationDuration:
    """`db.client.operation.duration`, which contrib 0.66b1 does not record; this steps back the day it does."""

    def __init__(self, meter: Meter, settings: Settings) -> None:
        edges = boundaries(_DB_BOUNDARIES, settings.slow_query_threshold, settings.critical_query_threshold)
        description = "Duration of database client operations."
        self._durations = Late(meter, semconv.DB_CLIENT_OPERATION_DURATION, "s", description, edges)
        self._summaries: set[str] = set()

    def record(
        self, duration: float, attributes: Mapping[str, str | int], statement: Statement, context: Context | None
    ) -> None:
        """Record seconds of one query. `attributes` name the database and the error, where there was one."""
        labels = {
            **attributes,
            semconv.DB_OPERATION_NAME: statement.verb or "other",
            semconv.DB_QUERY_SUMMARY: self._summary(statement.summary),
        }
        self._durations.record(duration, labels, context)

    def _summary(self, summary: str) -> str:
        """Return `summary`, or `other` once there are too many: each is a series of its own in Prometheus."""
        if summary not in self._summaries:
            if len(self._summaries) >= MAX_SUMMARIES:
                return "other"
            self._summaries.add(summary)
        return summary


def boundaries(usual: Sequence[float], *thresholds: float) -> list[float]:
    """Return the usual bucket boundaries and the thresholds, ascending, each once."""
    result = list(usual)
    for threshold in thresholds:
        if threshold not in result:
            insort(result, float(threshold))
    return result


def views(settings: Settings) -> list[View]:
    """Return the views: "the share of queries over 500 ms" is then exact in Prometheus, not interpolated.

    contrib's deprecated metric of connections is dropped; `db.client.connection.count` is its successor.
    """
    return [
        View(instrument_name=semconv.DB_CLIENT_CONNECTIONS_USAGE, aggregation=DropAggregation()),
        _histogram(
            semconv.DB_CLIENT_OPERATION_DURATION,
            boundaries(_DB_BOUNDARIES, settings.slow_query_threshold, settings.critical_query_threshold),
            _DB_ATTRIBUTES,
        ),
        _histogram(semconv.HTTP_SERVER_REQUEST_DURATION, boundaries(_HTTP_BOUNDARIES, settings.slow_request_threshold)),
        _histogram(semconv.METRIC_REQUEST_QUERIES, boundaries(_QUERIES_BOUNDARIES, settings.max_queries_per_request)),
    ]


def _histogram(instrument: str, edges: Sequence[float], attributes: set[str] | None = None) -> View:
    aggregation = ExplicitBucketHistogramAggregation(boundaries=edges)
    return View(instrument_name=instrument, aggregation=aggregation, attribute_keys=attributes)
