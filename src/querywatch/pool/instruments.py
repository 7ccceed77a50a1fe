"""The pool's metrics: OpenTelemetry's `db.client.connection.*`, and the utilisation.

Gauges are read from the pools when they are collected. Times are recorded then, too: recording a value costs the SDK
8 us, which a checkout need not wait for.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from querywatch import semconv
from querywatch.guard import guarded
from querywatch.pool.state import Pools, Usage, usages

#: Seconds. A checkout takes microseconds or, when it waits, up to the pool's time-out of usually 30 s.
BOUNDARIES: Final = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_MAX_LATE: Final = 4096


class Late:
    """A histogram whose values are recorded when somebody collects. Nothing is lost: a full buffer empties itself."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._values: deque[tuple[float, Mapping[str, str]]] = deque()
        os.register_at_fork(after_in_child=self._values.clear)

    def record(self, value: float, attributes: Mapping[str, str]) -> None:
        """Keep `value`."""
        self._values.append((value, attributes))
        if len(self._values) > _MAX_LATE:
            self.flush()

    def flush(self) -> None:
        """Record what was kept. Threads may do this at once: each value is taken by one of them."""
        while self._values:
            try:
                value, attributes = self._values.popleft()
            except IndexError:
                return
            self._histogram.record(value, attributes)


class PoolInstruments:
    """Every metric of the pools."""

    def __init__(self, meter: Meter, pools: Pools) -> None:
        self._pools = pools
        self.timeouts = meter.create_counter(
            semconv.DB_CLIENT_CONNECTION_TIMEOUTS, "{timeout}", "Checkouts that got no connection in time."
        )
        self.create_time = self._time(meter, semconv.DB_CLIENT_CONNECTION_CREATE_TIME, "To make a new connection.")
        self.wait_time = self._time(meter, semconv.DB_CLIENT_CONNECTION_WAIT_TIME, "To get a connection, without making it.")
        self.use_time = self._time(meter, semconv.DB_CLIENT_CONNECTION_USE_TIME, "Between checkout and return.")
        self._observe(meter)

    @staticmethod
    def _time(meter: Meter, name: str, description: str) -> Late:
        return Late(
            meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=list(BOUNDARIES))
        )

    def _observe(self, meter: Meter) -> None:
        counts: tuple[tuple[str, str, str, Callable[[Usage], int | None]], ...] = (
            (semconv.DB_CLIENT_CONNECTION_MAX, "{connection}", "Connections it may open.", lambda usage: usage.max),
            (semconv.DB_CLIENT_CONNECTION_IDLE_MAX, "{connection}", "Idle ones it may keep.", lambda usage: usage.idle_max),
            (semconv.DB_CLIENT_CONNECTION_IDLE_MIN, "{connection}", "Idle ones it must keep.", lambda usage: usage.idle_min),
            (semconv.DB_CLIENT_CONNECTION_PENDING_REQUESTS, "{request}", "Waiting for one.", lambda usage: usage.pending),
        )
        for name, unit, description, read in counts:
            meter.create_observable_up_down_counter(name, [self._reader(read)], unit, description)
        meter.create_observable_up_down_counter(
            semconv.DB_CLIENT_CONNECTION_COUNT, [self._count], "{connection}", "Connections by state."
        )
        meter.create_observable_gauge(
            semconv.METRIC_POOL_UTILIZATION, [self._reader(lambda usage: usage.utilization)], "1", "Used / maximum."
        )

    def _reader(self, read: Callable[[Usage], float | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            return self._observations(read) or ()

        return callback

    @guarded
    def _observations(self, read: Callable[[Usage], float | None]) -> list[Observation]:
        values = ((state, read(usage)) for state, usage in usages(self._pools))
        return [Observation(value, state.attributes) for state, value in values if value is not None]

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        self._flush()
        return self._states() or ()

    @guarded
    def _flush(self) -> None:
        # The SDK asks its callbacks before it gathers the histograms, so these values are in this very collection.
        for late in (self.create_time, self.wait_time, self.use_time):
            late.flush()

    @guarded
    def _states(self) -> list[Observation]:
        return list(self._by_state())

    def _by_state(self) -> Iterator[Observation]:
        for state, usage in usages(self._pools):
            for name, value in (("used", usage.used), ("idle", usage.idle)):
                yield Observation(value, {**state.attributes, semconv.DB_CLIENT_CONNECTION_STATE: name})
