"""The embedded OTLP receiver, fed by the real SDK and exporters, and by clients that get it wrong."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.util.types import AnyValue

from querywatch.demo import receiver as receiver_module
from querywatch.demo.receiver import Receiver

RESOURCE = Resource({"service.name": "shop"})
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def tracer_to(
    receiver: Receiver, compression: Compression = Compression.NoCompression
) -> tuple[TracerProvider, trace.Tracer]:
    provider = TracerProvider(resource=RESOURCE)
    exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, provider.get_tracer("shop.tracer")


def status_of(receiver: Receiver, method: str, path: str, body: bytes | None = None, **headers: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(receiver.endpoint).netloc, timeout=5)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()} or PROTOBUF)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_spans_arrive_as_they_were_sent(receiver: Receiver, compression: Compression) -> None:
    """Names, ids, times, attributes of every type, events, status and resource survive the way through OTLP."""
    provider, tracer = tracer_to(receiver, compression)
    attributes: dict[str, AnyValue] = {"s": "x", "i": 3, "d": 0.5, "b": True, "list": ["a", "b"]}
    with tracer.start_as_current_span("parent", kind=trace.SpanKind.SERVER, attributes=attributes) as parent:
        parent.add_event("querywatch.n_plus_one", {"querywatch.finding.count": 7})
        with tracer.start_as_current_span("child"):
            pass
    provider.shutdown()
    assert receiver.wait(lambda received: len(received.spans) == 2)
    child, got = receiver.spans
    context = parent.get_span_context()
    assert (got.name, got.kind, got.parent_id) == ("parent", "SERVER", "")
    assert (got.trace_id, got.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert got.attributes == attributes
    assert [(event.name, event.attributes) for event in got.events] == [
        ("querywatch.n_plus_one", {"querywatch.finding.count": 7})
    ]
    assert (child.trace_id, child.parent_id) == (got.trace_id, got.span_id)
    assert got.start <= child.start <= child.end <= got.end
    assert got.origin.resource["service.name"] == "shop"
    assert got.origin.scope == "shop.tracer"


def test_log_records_keep_event_name_and_trace(receiver: Receiver) -> None:
    """A log record arrives with its event name, attributes, severity, and the span it was emitted in."""
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(endpoint=f"{receiver.endpoint}/v1/logs"))
    )
    tracer = TracerProvider().get_tracer("shop")
    with tracer.start_as_current_span("request") as span:
        record = LogRecord(
            event_name="querywatch.slow_query",
            severity_number=SeverityNumber.WARN,
            body="slow",
            attributes={"querywatch.finding.wasted": 0.25},
        )
        provider.get_logger("shop").emit(record)
    provider.shutdown()
    assert receiver.wait(lambda received: received.logs)
    (log,) = receiver.logs
    assert (log.event_name, log.severity, log.body) == ("querywatch.slow_query", 13, "slow")
    assert log.attributes == {"querywatch.finding.wasted": 0.25}
    assert log.span_id == f"{span.get_span_context().span_id:016x}"


def test_metric_points_keep_values_buckets_and_exemplars(receiver: Receiver) -> None:
    """A counter's value, a histogram's buckets and the trace of its exemplar arrive."""
    exporter = OTLPMetricExporter(endpoint=f"{receiver.endpoint}/v1/metrics")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 60_000)], resource=RESOURCE)
    meter = provider.get_meter("shop")
    meter.create_counter("querywatch.findings", "{finding}").add(3, {"querywatch.finding.kind": "n_plus_one"})
    histogram = meter.create_histogram("db.duration", "s", explicit_bucket_boundaries_advisory=[0.1, 0.5])
    with TracerProvider().get_tracer("shop").start_as_current_span("request") as span:
        histogram.record(0.2)
    histogram.record(0.7)
    provider.shutdown()
    assert receiver.wait(lambda received: len(received.metrics) == 2)
    points = {point.name: point for point in receiver.metrics}
    counter, duration = points["querywatch.findings"], points["db.duration"]
    assert (counter.kind, counter.unit, counter.value) == ("sum", "{finding}", 3)
    assert counter.attributes == {"querywatch.finding.kind": "n_plus_one"}
    assert (duration.kind, duration.unit, duration.count) == ("histogram", "s", 2)
    assert duration.sum == pytest.approx(0.9)
    assert (duration.bounds, duration.bucket_counts) == ((0.1, 0.5), (0, 1, 1))
    assert [exemplar.trace_id for exemplar in duration.exemplars] == [f"{span.get_span_context().trace_id:032x}"]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/v1/traces", b"", PROTOBUF, 200),
        ("POST", "/v1/profiles", b"", PROTOBUF, 404),
        ("GET", "/v1/traces", None, PROTOBUF, 405),
        ("GET", "/", None, PROTOBUF, 404),
        ("POST", "/v1/logs", b"\xff\xff", PROTOBUF, 400),
        ("POST", "/v1/logs", b"not gzip", PROTOBUF | {"Content-Encoding": "gzip"}, 400),
        ("POST", "/v1/logs", gzip.compress(b"x" * 1000)[:20], PROTOBUF | {"Content-Encoding": "gzip"}, 400),
        ("POST", "/v1/metrics", b"{}", {"Content-Type": "application/json"}, 415),
        ("POST", "/v1/metrics", b"", PROTOBUF | {"Content-Encoding": "br"}, 415),
        ("POST", "/v1/metrics", b"", PROTOBUF | {"Content-Length": "-1"}, 400),
        ("POST", "/v1/metrics", b"", PROTOBUF | {"Content-Length": "99999999999"}, 413),
    ],
)
def test_wrong_requests_get_their_status(
    receiver: Receiver, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int
) -> None:
    """What is no OTLP export gets the HTTP status that says why, and nothing of it is kept."""
    assert status_of(receiver, method, path, body, **headers) == status
    assert (receiver.spans, receiver.logs, receiver.metrics) == ((), (), ())


def test_a_gzip_bomb_is_refused(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small body that decompresses to more than the limit is answered 413 instead of being unpacked."""
    monkeypatch.setattr(receiver_module, "MAX_BODY", 1024)
    bomb = gzip.compress(b"\0" * 1_000_000, 9)[:1024]
    assert status_of(receiver, "POST", "/v1/traces", bomb, **PROTOBUF, Content_Encoding="gzip") == 413


def test_memory_is_bounded() -> None:
    """Beyond its capacity the receiver keeps the newest items and counts what it dropped."""
    with Receiver(capacity=2) as receiver:
        provider, tracer = tracer_to(receiver)
        for name in "abc":
            tracer.start_span(name).end()
        provider.shutdown()
        assert receiver.wait(lambda received: received.dropped == 1)
        assert [span.name for span in receiver.spans] == ["b", "c"]


def test_bodies_are_relayed_as_they_came() -> None:
    """With a relay each signal's decompressed body goes on to the same path, and is kept as well."""
    relayed: list[tuple[str, bytes]] = []

    class Recorder:
        def send(self, path: str, body: bytes) -> None:
            relayed.append((path, body))

    with Receiver(relay=Recorder()) as first, Receiver() as second:
        provider, tracer = tracer_to(first, Compression.Gzip)
        tracer.start_span("a").end()
        provider.shutdown()
        assert first.wait(lambda received: received.spans)
        ((path, body),) = relayed
        assert status_of(second, "POST", path, body) == 200
        assert second.spans == first.spans


def test_waiting_ends_when_nothing_comes(receiver: Receiver) -> None:
    """`wait` returns False when its time is over, and True at once when its condition already holds."""
    assert receiver.wait(lambda received: received.spans, timeout=0.01) is False
    assert receiver.wait(lambda received: not received.spans, timeout=0) is True
