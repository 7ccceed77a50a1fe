"""Where findings go: the live request span, the log and the counter, all with one finding id."""

from collections.abc import Sequence
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
            self._log(finding, window, context)
            counted = {semconv.FINDING_KIND: finding.kind.value, semconv.SEVERITY: finding.severity.value}
            self._instruments.findings.add(1, counted | _route(window), context=context)

    def count_queries(self, window: Window, span: Span) -> None:
        """Record how many queries a finished request had."""
        self._instruments.request_queries.record(
            window.queries, _route(window), context=trace.set_span_in_context(span)
        )

    def _log(self, finding: Finding, window: Window, context: Context) -> None:
        severity = _SEVERITIES[finding.severity]
        self._logger.emit(
            event_name=finding.kind.event_name,
            severity_number=severity,
            severity_text=severity.name,
            body=str(finding),
            attributes={**finding.attributes(), **_route(window)},
            context=context,
        )


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


def _route(window: Window) -> dict[str, str]:
    return {} if window.route is None else {semconv.HTTP_ROUTE: window.route}
