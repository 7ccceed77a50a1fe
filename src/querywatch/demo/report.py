"""From received telemetry to facts: which request left which trace, and the findings, merged and ranked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from querywatch import semconv
from querywatch.demo.finding import Finding
from querywatch.demo.pools import Pool, pools
from querywatch.demo.telemetry import LogRecord, MetricPoint, Span
from querywatch.demo.walk import Answer, Visit

_PREFIX: Final = "querywatch."
_SUMMED: Final = (semconv.FINDING_COUNT, semconv.FINDING_DURATION, semconv.FINDING_WASTED)


@dataclass(frozen=True, slots=True)
class Request:
    """A visit with what it left: its request span, that span's whole trace, and the findings."""

    answer: Answer
    span: Span | None = None
    trace: tuple[Span, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def visit(self) -> Visit:
        """The stop of the tour."""
        return self.answer.visit

    @property
    def queries(self) -> int:
        """How many queries the request ran."""
        return int(self.span.attributes.get(semconv.QUERY_COUNT, 0)) if self.span else 0

    @property
    def seconds(self) -> float:
        """The duration of the request span, in seconds."""
        return self.span.seconds if self.span else 0.0

    @property
    def wasted(self) -> float:
        """What all findings of the request wasted, in seconds."""
        return sum(finding.wasted for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that came through OTLP during the walk, findings with the most wasted time first."""

    requests: tuple[Request, ...]
    findings: tuple[Finding, ...]
    summaries: dict[str, str] = field(default_factory=dict)
    """The summary (`SELECT books`) of each statement's fingerprint."""
    pools: tuple[Pool, ...] = ()
    """The connection pools, the least healthy first."""

    @property
    def worst(self) -> Request | None:
        """The request whose findings wasted the most."""
        return _worst(request for request in self.requests if request.findings)

    @property
    def worst_n_plus_one(self) -> Request | None:
        """The request whose findings wasted the most, among those with an N+1."""
        return _worst(r for r in self.requests if any(finding.kind == "n_plus_one" for finding in r.findings))

    @property
    def twins(self) -> list[tuple[Request, Request]]:
        """Every visited route with a mistake beside its fixed twin, where both left telemetry."""
        visited = {request.visit.path: request for request in self.requests if request.span}
        pairs = ((request, visited.get(request.visit.twin or "")) for request in self.requests if request.span)
        return [(bad, fixed) for bad, fixed in pairs if fixed]


def _worst(requests: Iterable[Request]) -> Request | None:
    return max(requests, key=lambda request: request.wasted, default=None)


def build(
    answers: Sequence[Answer], spans: Iterable[Span], logs: Iterable[LogRecord], points: Iterable[MetricPoint] = ()
) -> Report:
    """Join the walk's answers with the telemetry that was received meanwhile."""
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    found: dict[str, list[Finding]] = defaultdict(list)
    for log in findings_among(logs):
        found[log.trace_id].append(_finding(log, traces[log.trace_id]))
    requests = tuple(_request(answer, traces, found) for answer in answers)
    findings = merged(found)
    return Report(requests, findings, _summaries(traces), pools(points, findings))


def complete(answers: Sequence[Answer], spans: Iterable[Span], logs: Iterable[LogRecord]) -> bool:
    """Whether every answer's request span has arrived, and a log record for each finding that is an event on it."""
    servers = [span for span in spans if span.kind == "SERVER"]
    requests = [_span_of(answer, servers) for answer in answers]
    events = {
        (span.trace_id, event.attributes.get(semconv.FINDING_ID))
        for span in requests
        if span is not None
        for event in span.events
        if event.name.startswith(_PREFIX)
    }
    arrived = {(log.trace_id, log.attributes.get(semconv.FINDING_ID)) for log in findings_among(logs)}
    return all(requests) and events <= arrived


def findings_among(logs: Iterable[LogRecord]) -> list[LogRecord]:
    """Return the log records that are findings."""
    return [log for log in logs if log.event_name.startswith(_PREFIX) and semconv.FINDING_ID in log.attributes]


def merged(found: dict[str, list[Finding]]) -> tuple[Finding, ...]:
    """Return the findings of all traces, one for each id, ranked; runs, duration and waste are sums."""
    by_id: dict[str, list[Finding]] = defaultdict(list)
    for findings in found.values():
        for finding in findings:
            by_id[finding.id].append(finding)
    return tuple(sorted((_sum(same) for same in by_id.values()), key=lambda finding: finding.rank))


def _sum(same: list[Finding]) -> Finding:
    worst = min(same, key=lambda finding: (finding.severity != "critical", finding.rank))
    # How full a pool is does not add up.
    summed = () if worst.kind == "pool_saturation" else _SUMMED
    sums = {name: sum(f.attributes[name] for f in same) for name in summed if all(name in f.attributes for f in same)}
    return Finding(worst.kind, worst.attributes | sums, worst.route, worst.trace_id, len({f.trace_id for f in same}))


def _finding(log: LogRecord, trace: Iterable[Span]) -> Finding:
    spans = {span.span_id: span for span in trace}
    attributes = spans[log.span_id].attributes if log.span_id in spans else {}
    route = f"{attributes.get('http.request.method', '')} {attributes.get(semconv.HTTP_ROUTE, '')}".strip()
    return Finding(log.event_name.removeprefix(_PREFIX), log.attributes, route, log.trace_id)


def _request(answer: Answer, traces: dict[str, list[Span]], found: dict[str, list[Finding]]) -> Request:
    span = _span_of(answer, (span for trace in traces.values() for span in trace if span.kind == "SERVER"))
    if span is None:
        return Request(answer)
    findings = sorted(found.get(span.trace_id, ()), key=lambda finding: finding.rank)
    return Request(answer, span, tuple(traces[span.trace_id]), tuple(findings))


def _span_of(answer: Answer, servers: Iterable[Span]) -> Span | None:
    # One visit after the other and one clock: the request span is the one that began meanwhile.
    return next((span for span in servers if answer.start <= span.start <= answer.end), None)


def _summaries(traces: dict[str, list[Span]]) -> dict[str, str]:
    return {
        span.attributes[semconv.QUERY_FINGERPRINT]: str(span.attributes.get(semconv.DB_QUERY_SUMMARY, ""))
        for trace in traces.values()
        for span in trace
        if semconv.QUERY_FINGERPRINT in span.attributes
    }
