"""What the entries of a request have in common: open it or join the one around it, be in it, finish it."""

from collections.abc import Callable

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from querywatch import spans
from querywatch.guard import guarded


class Entry:
    """One call of an application. A call inside another one's request belongs to that request.

    `outside` is the OpenTelemetry context to start from where the present one is a stranger's.
    """

    def __init__(
        self, requests: spans.Requests, locator: spans.Locator | None = None, outside: Context | None = None
    ) -> None:
        around = spans.current() if outside is None else None
        self._requests = requests
        self._outside = outside
        self._owns = around is None
        self.request = requests.open() if around is None else around
        if locator is not None:
            self.request.locators.append(locator)

    @guarded
    def enter(self) -> Callable[[], None]:
        """Make the request that of this context; the returned function takes that back."""
        leave = spans.enter(self.request)
        return leave if self._outside is None else _attached(self._outside, leave)

    @guarded
    def enter_body(self) -> Callable[[], None]:
        """The same for the body that follows the call: its spans become children of the request span, ended or not."""
        leave = spans.enter(self.request)
        if trace.get_current_span().get_span_context().is_valid:
            return leave
        return _attached(trace.set_span_in_context(self.request.span), leave)

    @guarded
    def end_call(self, span: trace.Span | None = None) -> None:
        """The application has returned; a body may follow. `span` is the framework's, recorded or not."""
        if span is not None:
            self.request.know_trace(span)
        if self._owns:
            self._requests.end_call(self.request)

    @guarded
    def finish(self) -> None:
        """Nothing follows. Closing a request that is closed does nothing."""
        if self._owns and self.request.window.is_open:
            self._requests.close(self.request)


def _attached(context: Context, leave: Callable[[], None]) -> Callable[[], None]:
    token = otel_context.attach(context)

    def leave_both() -> None:
        otel_context.detach(token)
        leave()

    return leave_both
