"""The pool's metrics: OpenTelemetry's `db.client.connection.*`, and the utilisation.

Gauges are read from the pools when they are collected.
"""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from querywatch import semconv
from querywatch.guard import guarded
from querywatch.metrics import Late
from querywatch.pool.health import health
from querywatch.pool.state import Pools, PoolState, Usage
from querywatch.settings import Settings

#: Seconds. A checkout takes microseconds or, when it waits, up to the pool's time-out of usually 30 s.
BOUNDARIES: Final = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class PoolInstruments:
    """Every metric of the pools."""

    def __init__(self, meter: Meter, pools: Pools, settings: Settings) -> None:
        self._pools = pools
        self._settings = settings
        self.timeouts = meter.create_counter(
            semconv.DB_CLIENT_CONNECTION_TIMEOUTS, "{timeout}", "Checkouts that got no connection in time."
        )
        self._recoveries = meter.create_counter(
            semconv.METRIC_POOL_RECOVERIES, "{connection}", "Connections replaced, or given back for their holder."
        )
        self.create_time, self.wait_time, self.use_time = (
            Late(meter, name, "s", description, BOUNDARIES)
            for name, description in (
                (semconv.DB_CLIENT_CONNECTION_CREATE_TIME, "Time to make a new connection."),
                (semconv.DB_CLIENT_CONNECTION_WAIT_TIME, "Time to get a connection, without that to make it."),
                (semconv.DB_CLIENT_CONNECTION_USE_TIME, "Time between checkout and return."),
            )
        )
        self._observe(meter)

    def flush(self) -> None:
        """Record the times that were kept, so that no request has to when there are many."""
        for times in (self.create_time, self.wait_time, self.use_time):
            times.flush()

    def recovered(self, state: PoolState, act: str) -> None:
        """Count an act of recovery: `replaced` or `returned`."""
        self._recoveries.add(1, {**state.attributes, semconv.POOL_RECOVERY: act})

    def _observe(self, meter: Meter) -> None:
        connections: tuple[tuple[str, str, Callable[[Usage], int | None]], ...] = (
            (semconv.DB_CLIENT_CONNECTION_MAX, "Connections it may open.", lambda usage: usage.max),
            (semconv.DB_CLIENT_CONNECTION_IDLE_MAX, "Idle connections it may keep.", lambda usage: usage.idle_max),
            (semconv.DB_CLIENT_CONNECTION_IDLE_MIN, "Idle connections it must keep.", lambda usage: usage.idle_min),
        )
        for name, description, read in connections:
            meter.create_observable_up_down_counter(name, [self._reader(read)], "{connection}", description)
        pending = [self._reader(lambda usage: usage.pending)]
        utilization = [self._reader(lambda usage: usage.utilization)]
        count = semconv.DB_CLIENT_CONNECTION_COUNT
        meter.create_observable_up_down_counter(count, [self._count], "{connection}", "Connections by state.")
        meter.create_observable_up_down_counter(
            semconv.DB_CLIENT_CONNECTION_PENDING_REQUESTS, pending, "{request}", "Calls that wait for a connection."
        )
        meter.create_observable_gauge(semconv.METRIC_POOL_HEALTH, [self._health], "1", "Health of the pool, 0 to 1.")
        meter.create_observable_gauge(
            semconv.METRIC_POOL_LEAKS, [self._leaks], "{connection}", "Connections that nobody gives back."
        )
        meter.create_observable_gauge(semconv.METRIC_POOL_UTILIZATION, utilization, "1", "Used connections / maximum.")

    def _reader(self, read: Callable[[Usage], float | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: self._per_pool(lambda _, usage: read(usage))

    def _per_pool(self, read: Callable[[PoolState, Usage], float | None]) -> Iterable[Observation]:
        return self._observations(read) or ()

    @guarded
    def _observations(self, read: Callable[[PoolState, Usage], float | None]) -> list[Observation]:
        values = ((state, read(state, usage)) for state, usage in self._pools.usages())
        return [Observation(value, state.attributes) for state, value in values if value is not None]

    def _health(self, _: CallbackOptions) -> Iterable[Observation]:
        return self._per_pool(
            lambda state, usage: health(state.vitals(usage, monotonic()), self._settings.pool_warning)
        )

    def _leaks(self, _: CallbackOptions) -> Iterable[Observation]:
        return self._per_pool(lambda state, _: sum(checkout.leaked for checkout in state.checkouts()))

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        return self._states() or ()

    @guarded
    def _states(self) -> list[Observation]:
        return list(self._by_state())

    def _by_state(self) -> Iterator[Observation]:
        for state, usage in self._pools.usages():
            for name, value in (("used", usage.used), ("idle", usage.idle)):
                yield Observation(value, {**state.attributes, semconv.DB_CLIENT_CONNECTION_STATE: name})
