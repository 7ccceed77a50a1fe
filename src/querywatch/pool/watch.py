"""Looks after the connections in use: leaks, saturation. Once a second while there are any, and never otherwise."""

import os
import threading
from time import monotonic
from typing import Final

from opentelemetry import trace

from querywatch.findings import Finding
from querywatch.guard import guarded
from querywatch.outputs import Outputs
from querywatch.pool import findings
from querywatch.pool.instruments import PoolInstruments
from querywatch.pool.state import Checkout, Pools, PoolState
from querywatch.settings import Settings
from querywatch.spans import Request, current

_INTERVAL: Final = 1.0


class PoolWatch:
    """Turns what happens at pools into findings."""

    def __init__(self, pools: Pools, settings: Settings, outputs: Outputs, instruments: PoolInstruments) -> None:
        self._pools = pools
        self._settings = settings
        self._outputs = outputs
        self._instruments = instruments
        self._busy = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forked)

    def checked_out(self, state: PoolState) -> None:
        """Look at a pool that has just given a connection away."""
        if state.saturation.level is not None or state.utilization > self._settings.pool_warning:
            self._observe(state)
        if not self._busy.is_set():
            self._busy.set()
            self._start()

    def timed_out(self, state: PoolState) -> None:
        """Look at a pool that could not give a connection in time."""
        self._observe(state, timed_out=True)

    @guarded
    def request_closed(self, request: Request) -> None:
        """Report what the request has left behind."""
        for checkout in self.left_behind(request):
            self._leaked(checkout, ended=True)

    def left_behind(self, request: Request) -> list[Checkout]:
        """Return the connections that `request` took itself, in its own thread or task, and that are still out."""
        return [
            checkout
            for state in self._pools
            if state.can_leak
            for checkout in state.checkouts()
            if checkout.request is request and checkout.owner == request.owner
        ]

    def look(self, now: float) -> bool:
        """Look at every pool; whether any connection is in use. `now` is monotonic seconds."""
        busy = False
        for state in self._pools:
            state.note_rate(now)
            checkouts = state.checkouts()
            busy = busy or bool(checkouts)
            for checkout in checkouts if state.can_leak else ():
                if now - checkout.started > self._settings.leak_threshold:
                    self._leaked(checkout, ended=False)
            self._observe(state)
        return busy

    def _observe(self, state: PoolState, *, timed_out: bool = False) -> None:
        with state.lock:
            severity = state.saturation.observe(state.utilization, monotonic(), timed_out=timed_out)
        usage = state.usage() if severity is not None else None
        if severity is not None and usage is not None:
            finding = findings.saturation(state, usage, severity, timed_out=timed_out)
            self._publish(finding, state, None, _current_span())

    def _leaked(self, checkout: Checkout, *, ended: bool) -> None:
        if not checkout.leaked:
            checkout.leaked = True
            finding = findings.leak(checkout, ended=ended)
            self._publish(finding, checkout.state, checkout.route, _span(checkout))

    def _publish(self, finding: Finding, state: PoolState, route: str | None, span: trace.Span) -> None:
        if not self._settings.ignores(finding.key, state.name, route):
            self._outputs.publish_of_pool(finding, state.attributes, route, span)

    def returned(self, checkout: Checkout) -> None:
        """Tell of a connection that had been reported as leaked, and has come back."""
        finding = findings.leak(checkout, ended=False)
        self._outputs.tell_returned(finding, checkout.state.attributes, _span(checkout))

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="querywatch-pools", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._thread = None
        self._busy.set()

    def _run(self) -> None:
        pause = threading.Event()
        while self._thread is threading.current_thread():
            self._busy.wait()
            pause.wait(_INTERVAL)
            self._look_once()

    @guarded
    def _look_once(self) -> None:
        self._busy.clear()
        self._instruments.flush()
        if self.look(monotonic()):
            self._busy.set()

    @guarded
    def _forked(self) -> None:
        """A thread does not survive a fork, and a lock may have been held by one that did not."""
        self._busy = threading.Event()
        self._starting = threading.Lock()
        self._thread = None


def _span(checkout: Checkout) -> trace.Span:
    return trace.INVALID_SPAN if checkout.request is None else checkout.request.span


def _current_span() -> trace.Span:
    """Return the span of the request that is served here; the current one is contrib's span of the checkout."""
    request = current()
    return trace.get_current_span() if request is None else request.span
