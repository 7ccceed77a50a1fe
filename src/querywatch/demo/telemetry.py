"""Received telemetry as plain frozen dataclasses, decoded from OTLP's protobuf messages.

Ids are lower-case hex, times are nanoseconds since the epoch, attributes are dicts of Python values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Attributes = dict[str, Any]

_SPAN_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUS_CODES = ("UNSET", "OK", "ERROR")
_TEMPORALITIES = ("UNSPECIFIED", "DELTA", "CUMULATIVE")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent something: the attributes of its resource and the name of its instrumentation scope."""

    resource: Attributes = field(default_factory=dict)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """An event of a span."""

    name: str
    time: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """A finished span; `parent_id` is empty for a root, `kind` is e.g. `SERVER`, `status` `UNSET`, `OK` or `ERROR`."""

    trace_id: str
    span_id: str
    name: str
    start: int
    end: int
    parent_id: str = ""
    kind: str = "INTERNAL"
    status: str = "UNSET"
    attributes: Attributes = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    origin: Origin = field(default_factory=Origin)

    @property
    def seconds(self) -> float:
        """The span's duration in seconds."""
        return (self.end - self.start) / 1e9


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record; `severity` is OpenTelemetry's number (13 = WARN), the ids are empty outside a trace."""

    event_name: str
    time: int
    body: Any = None
    severity: int = 0
    trace_id: str = ""
    span_id: str = ""
    attributes: Attributes = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A sample measurement with the trace it was made in."""

    value: float
    time: int
    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One data point: `value` of a gauge or sum; `count`, `sum`, `bounds` and `bucket_counts` of a histogram."""

    name: str
    unit: str
    kind: str
    time: int
    attributes: Attributes
    value: float | None = None
    count: int = 0
    sum: float = 0.0
    bounds: tuple[float, ...] = ()
    bucket_counts: tuple[int, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    temporality: str = ""
    origin: Origin = field(default_factory=Origin)


def decode_spans(body: bytes) -> list[Span]:
    """Return the spans of an OTLP trace export request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, Origin(_attributes(resource.resource.attributes), scope.scope.name))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def decode_logs(body: bytes) -> list[LogRecord]:
    """Return the records of an OTLP logs export request."""
    request = ExportLogsServiceRequest.FromString(body)
    return [
        _log(record, Origin(_attributes(resource.resource.attributes), scope.scope.name))
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def decode_metrics(body: bytes) -> list[MetricPoint]:
    """Return the data points of an OTLP metrics export request; summaries are left out."""
    request = ExportMetricsServiceRequest.FromString(body)
    return [
        point
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in _points(metric, Origin(_attributes(resource.resource.attributes), scope.scope.name))
    ]


def _span(span: Any, origin: Origin) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=_SPAN_KINDS[span.kind],
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status=_STATUS_CODES[span.status.code],
        attributes=_attributes(span.attributes),
        events=tuple(SpanEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events),
        origin=origin,
    )


def _log(record: Any, origin: Origin) -> LogRecord:
    return LogRecord(
        event_name=record.event_name,
        time=record.time_unix_nano or record.observed_time_unix_nano,
        body=_value(record.body),
        severity=record.severity_number,
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        attributes=_attributes(record.attributes),
        origin=origin,
    )


def _points(metric: Any, origin: Origin) -> Iterator[MetricPoint]:
    kind = metric.WhichOneof("data") or ""
    data = getattr(metric, kind, None)
    for point in getattr(data, "data_points", ()) if kind != "summary" else ():
        yield MetricPoint(
            name=metric.name,
            unit=metric.unit,
            kind=kind,
            time=point.time_unix_nano,
            attributes=_attributes(point.attributes),
            value=_number(point) if kind in ("gauge", "sum") else None,
            count=getattr(point, "count", 0),
            sum=getattr(point, "sum", 0.0),
            bounds=tuple(getattr(point, "explicit_bounds", ())),
            bucket_counts=tuple(getattr(point, "bucket_counts", ())),
            exemplars=tuple(_exemplar(exemplar) for exemplar in point.exemplars),
            temporality=_TEMPORALITIES[getattr(data, "aggregation_temporality", 0)],
            origin=origin,
        )


def _exemplar(exemplar: Any) -> Exemplar:
    return Exemplar(
        value=_number(exemplar),
        time=exemplar.time_unix_nano,
        trace_id=exemplar.trace_id.hex(),
        span_id=exemplar.span_id.hex(),
        attributes=_attributes(exemplar.filtered_attributes),
    )


def _number(point: Any) -> float:
    number: float = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
    return number


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
