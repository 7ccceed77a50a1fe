"""An OpenTelemetry SDK in memory, for tests inside this process: what would be exported, to be read at once.

Providers are set once for a process: whoever comes first sets them, everybody else adds exporters to what there is.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import querywatch
from querywatch import pipeline, semconv
from querywatch.settings import Settings


@dataclass(frozen=True)
class Query:
    """A database span."""

    span: ReadableSpan

    def __getitem__(self, name: str) -> Any:
        return (self.span.attributes or {}).get(name)

    @property
    def text(self) -> Any:
        """The statement, under the name that the semantic conventions of this process have for it."""
        return self[semconv.DB_QUERY_TEXT] or self[semconv.DB_STATEMENT]


@dataclass(frozen=True)
class Story:
    """Everything that one request has exported."""

    root: ReadableSpan
    queries: list[Query]
    logs: list[Any]
    metrics: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        return {name: value for name, value in (self.root.attributes or {}).items() if name.startswith("querywatch.")}

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        """The attributes of the root's events, by the key of their finding."""
        return {str((e.attributes or {})[semconv.FINDING_KEY]): dict(e.attributes or {}) for e in self.root.events}


@dataclass
class Sdk:
    """The exporters, and the tracer with which a test plays the framework."""

    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    logs: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)
    metrics: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def install(self) -> None:
        """Add the exporters to the providers of this process."""
        tracers = _the(TracerProvider, trace.get_tracer_provider, trace.set_tracer_provider)
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        loggers = _the(LoggerProvider, _logs.get_logger_provider, _logs.set_logger_provider)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        _the(MeterProvider, metrics.get_meter_provider, metrics.set_meter_provider).add_metric_reader(self.metrics)

    def request(self, scenario: Callable[[], object], route: str, kind: SpanKind = SpanKind.SERVER) -> Story:
        """Run a scenario in a request span and return what came out; `route` must be new for each request."""
        self.spans.clear()
        self.logs.clear()
        tracer = trace.get_tracer("tests")
        with tracer.start_as_current_span(f"GET {route}", kind=kind, attributes={semconv.HTTP_ROUTE: route}) as root:
            scenario()
        spans = self.spans.get_finished_spans()
        (own,) = [span for span in spans if span.context.span_id == root.get_span_context().span_id]
        return Story(own, self.queries(), list(self.logs.get_finished_logs()), self._points(route))

    def queries(self) -> list[Query]:
        """Return the database spans so far, in the order of their ends."""
        spans = self.spans.get_finished_spans()
        return [Query(span) for span in spans if semconv.QUERY_FINGERPRINT in (span.attributes or {})]

    def _points(self, route: str) -> dict[str, list[Any]]:
        """Return the data points of a route, by metric."""
        data: Any = self.metrics.get_metrics_data()
        found = [metric for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics]
        points = {metric.name: [p for p in metric.data.data_points if _of(route, p)] for metric in found}
        return {name: mine for name, mine in points.items() if mine}


def _of(route: str, point: Any) -> bool:
    return bool(point.attributes.get(semconv.HTTP_ROUTE) == route)


def _the(kind: type[Any], get: Callable[[], Any], put: Callable[[Any], None]) -> Any:
    if not isinstance(get(), kind):
        put(kind())
    return get()


@contextmanager
def instrumented(settings: Settings) -> Iterator[Sdk]:
    """Instrument this process as a program does that sets its SDK up itself, and take that back."""
    pipeline.uninstall()  # a test helper may have left one
    sdk = Sdk()
    sdk.install()
    querywatch.instrument(settings)
    try:
        yield sdk
    finally:
        pipeline.uninstall()
        for exporter in (sdk.spans, sdk.logs):  # a provider does not give them back: they keep nothing from here on
            exporter.shutdown()
            exporter.clear()
        for instrumentor in (FlaskInstrumentor(), SQLAlchemyInstrumentor()):
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()
