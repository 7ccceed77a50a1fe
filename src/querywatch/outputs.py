"""Where findings go: the live request span, the log and the counter, all with one finding id."""

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry._logs import Logger, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.metrics import get_meter
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from querywatch import semconv
from querywatch.findings import Finding, Kind, Severity
from querywatch.metrics import Instruments
from querywatch.settings import Settings
from querywatch.window import Window

_SCOPE: Final = "querywatch"
_SEVERITIES: Final = {Severity.WARNING: SeverityNumber.WARN, Severity.CRITICAL: SeverityNumber.ERROR}


class Outputs:
    """One logger and one set of instruments; both follow providers that are set later."""

    def __init__(self, settings: Settings) -> None:
        self._logger: Logger = get_logger(_SCOPE)
        self._instruments = Instruments(get_meter(_SCOPE), settings)

    def publish(self, window: Window, findings: Sequence[Finding], new: Sequence[Finding], span: Span) -> None:
        """Send out the `new` ones of a request's findings.

        `span` is its local root: one that has ended or was dropped is not touched, but log record and counter carry
        its trace context all the same.
        """
        if span.is_recording():
            span.set_attributes(_totals(window, findings))
            for finding in new:
                span.add_event(finding.kind.event_name, finding.attributes())
        context = trace.set_span_in_context(span)
        for finding in new:
            self._send(finding, _route(window.route), context)

    def publish_of_pool(self, finding: Finding, pool: Mapping[str, str], route: str | None, span: Span) -> None:
        """Send out a finding on a connection pool; `pool` holds its name, `span` is that of the request it concerns."""
        if span.is_recording():
            span.add_event(finding.kind.event_name, {**finding.attributes(), **pool})
        self._send(finding, {**pool, **_route(route)}, trace.set_span_in_context(span))

    def tell_returned(self, finding: Finding, pool: Mapping[str, str], span: Span) -> None:
        """Log that the connection of a leak has come back."""
        self._logger.emit(
            event_name=semconv.EVENT_CONNECTION_RETURNED,
            severity_number=SeverityNumber.INFO,
            severity_text=SeverityNumber.INFO.name,
            body=f"The connection of {finding.key} has come back after {finding.duration:.1f} s.",
            attributes={**finding.attributes(), **pool},
            context=trace.set_span_in_context(span),
        )

    def count_queries(self, window: Window, span: Span) -> None:
        """Record how many queries a finished request had."""
        self._instruments.request_queries.record(
            window.queries, _route(window.route), context=trace.set_span_in_context(span)
        )

    def _send(self, finding: Finding, where: Mapping[str, str], context: Context) -> None:
        severity = _SEVERITIES[finding.severity]
        self._logger.emit(
            event_name=finding.kind.event_name,
            severity_number=severity,
            severity_text=severity.name,
            body=str(finding),
            attributes={**finding.attributes(), **where},
            context=context,
        )
        counted = {semconv.FINDING_KIND: finding.kind.value, semconv.SEVERITY: finding.severity.value, **where}
        self._instruments.findings.add(1, counted, context=context)


def _totals(window: Window, findings: Sequence[Finding]) -> dict[str, AttributeValue]:
    totals: dict[str, AttributeValue] = {
        semconv.QUERY_COUNT: window.queries,
        semconv.QUERY_DURATION: window.duration,
        semconv.N_PLUS_ONE_COUNT: sum(finding.kind is Kind.N_PLUS_ONE for finding in findings),
    }
    if findings:
        totals[semconv.FINDINGS] = sorted({finding.kind.value for finding in findings})
        totals[semconv.SEVERITY] = max((finding.severity for finding in findings), key=lambda s: s.rank).value
    return totals


def _route(route: str | None) -> dict[str, str]:
    return {} if route is None else {semconv.HTTP_ROUTE: route}
