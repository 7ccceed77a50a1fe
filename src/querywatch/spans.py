"""From spans to requests and back: which request a query belongs to, and what the request's span is told at its end.

A request is opened by its entry (WSGI, ASGI: see hooks) or, where there is none, by its local root span. The span gets
totals and findings just before it ends: a `SpanProcessor` comes too late for that (opentelemetry-python #5614).
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from time import perf_counter, time_ns
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from querywatch import detectors, semconv
from querywatch.callsite import Callsite
from querywatch.findings import Finding, Kind
from querywatch.guard import guarded
from querywatch.outputs import Outputs
from querywatch.settings import Settings
from querywatch.window import Window

#: The request of a span, kept on the span itself: it lives exactly as long as somebody can ask for it.
_REQUEST: Final = "_querywatch_request"
#: A lone call to a database, another service or a broker is no request of ours.
_NO_REQUEST: Final = (SpanKind.CLIENT, SpanKind.PRODUCER)

#: Answers route and view of a request; both None as long as the framework has not found them.
Locator = Callable[[], tuple[str | None, Callsite | None] | None]


def whereabouts() -> tuple[int, int | None]:
    """Return the running thread and task: what a request does in another one may outlive it."""
    loop = asyncio._get_running_loop()
    return threading.get_ident(), None if loop is None else id(asyncio.current_task(loop))


class Request:
    """One request: its window, its local root span (invalid until one has started), and who knows its route."""

    __slots__ = ("elapsed", "findings", "locators", "opened", "owner", "span", "window")

    def __init__(self, settings: Settings) -> None:
        self.window = Window(settings)
        self.span: trace.Span = trace.INVALID_SPAN
        self.locators: list[Locator] = []
        self.opened = perf_counter()
        self.owner = whereabouts()
        #: Seconds from start to end of the span or, without one, of the entry; None while it runs.
        self.elapsed: float | None = None
        #: What was published, by (kind, key): each once.
        self.findings: dict[tuple[Kind, str], Finding] = {}

    def know_trace(self, span: trace.Span | None = None) -> None:
        """Take the trace from `span`, or the current one, where no root is known: one that was dropped tells nobody."""
        if self.span is trace.INVALID_SPAN:
            span = span or trace.get_current_span()
            if not span.is_recording():
                self.span = span

    def locate(self) -> None:
        """Ask for route and view, the innermost framework first: the most specific route wins."""
        for locator in reversed(self.locators):
            route, callsite = locator() or (None, None)
            if route is not None:
                self.window.route, self.window.callsite = route, callsite
                return
        attributes = getattr(self.span, "attributes", None) or {}
        self.window.route = attributes.get(semconv.HTTP_ROUTE) or getattr(self.span, "name", None)

    def detect(self) -> list[Finding]:
        """Return the findings so far."""
        self.locate()
        elapsed = self.elapsed if self.elapsed is not None else perf_counter() - self.opened
        return detectors.detect(self.window, elapsed)


#: The request that this thread or task has entered. Copied contexts (tasks, worker threads) carry it along.
_entered: ContextVar[Request | None] = ContextVar("querywatch_request", default=None)


def entered() -> Request | None:
    """Return the open request that this context has entered, None outside of one."""
    request = _entered.get()
    return request if request is not None and request.window.is_open else None


def enter(request: Request) -> Token[Request | None]:
    """Make `request` the one of this context; `leave` takes that back."""
    return _entered.set(request)


def leave(token: Token[Request | None]) -> None:
    """Make the request before `enter` that of this context again."""
    _entered.reset(token)


def of_span(span: trace.Span) -> Request | None:
    """Return the open request that `span` belongs to."""
    request: Request | None = getattr(span, _REQUEST, None)
    return request if request is not None and request.window.is_open else None


def current() -> Request | None:
    """Return the open request of this context: the entered one, or that of the current span (in other threads)."""
    return entered() or of_span(trace.get_current_span())


class Requests:
    """Opens and closes requests, and publishes what they had."""

    def __init__(self, settings: Settings, outputs: Outputs) -> None:
        self._settings = settings
        self._outputs = outputs
        #: Who wants to know of a request that has closed.
        self.closing: list[Callable[[Request], None]] = []

    def open(self) -> Request:
        """Return a new request; who opened it closes it."""
        return Request(self._settings)

    def end_span(self, request: Request, end_time: int | None) -> None:
        """Publish the findings while the request's span is still recording. `end_time` is ns since the epoch."""
        start = getattr(request.span, "start_time", None) or time_ns()
        request.elapsed = ((end_time or time_ns()) - start) / 1e9
        self._publish(request)

    def end_call(self, request: Request) -> None:
        """Take the time of a request without a recorded span; a streaming body may still follow."""
        if request.elapsed is None:
            request.elapsed = perf_counter() - request.opened

    def close(self, request: Request) -> None:
        """Publish what has come since the span ended, or everything where there was none to record it."""
        self.end_call(request)
        request.window.close()
        self._publish(request)
        self._outputs.count_queries(request.window, request.span)
        for callback in self.closing:
            callback(request)

    def _publish(self, request: Request) -> None:
        new = {(f.kind, f.key): f for f in request.detect() if (f.kind, f.key) not in request.findings}
        request.findings.update(new)
        self._outputs.publish(request.window, list(request.findings.values()), list(new.values()), request.span)


class RootSpans(SpanProcessor):
    """Finds the local root of every request, and opens requests for roots that have no entry (consumers, scripts)."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        #: A provider does not give a processor back: this one goes quiet instead.
        self.enabled = True

    @guarded
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Attach `span` to the request of its context or of its parent, or make it the root of a new one."""
        if not self.enabled:
            return
        is_root = span.kind not in _NO_REQUEST and (span.parent is None or span.parent.is_remote)
        request = entered() or of_span(trace.get_current_span(parent_context))
        if request is not None:
            setattr(span, _REQUEST, request)
            if is_root and not request.span.is_recording():
                self._watch(request, span, closes=False)
        elif is_root:
            request = self._requests.open()
            setattr(span, _REQUEST, request)
            self._watch(request, span, closes=True)

    def _watch(self, request: Request, span: Span, *, closes: bool) -> None:
        request.span = span
        # An attribute of this one span hides the method of its class until the span has ended.
        setattr(span, "end", functools.partial(self._end, span, request, span.end, closes))  # noqa: B010

    def _end(
        self, span: Span, request: Request, end: Callable[[int | None], None], closes: bool, end_time: int | None = None
    ) -> None:
        vars(span).pop("end", None)
        self._finish(request, end_time, closes)
        end(end_time)

    @guarded
    def _finish(self, request: Request, end_time: int | None, closes: bool) -> None:
        self._requests.end_span(request, end_time)
        if closes:
            self._requests.close(request)


class KeepLocalRoots(Sampler):
    """Records, without exporting, the spans that the inner sampler dropped and that a request is recognised by.

    Requests that came through an entry do without it. `RECORD_ONLY` is the specification's way to let span processors
    see a span that is not sampled: its context stays unsampled, exporters and other services do not see it.
    """

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(  # noqa: PLR0913, PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide as the inner sampler does, but record what it drops outside of an entered request."""
        result = self._inner.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is Decision.DROP and kind not in _NO_REQUEST and entered() is None:
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """Name the inner sampler."""
        return f"KeepLocalRoots({self._inner.get_description()})"
