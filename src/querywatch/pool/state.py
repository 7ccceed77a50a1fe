"""What the connection pools of this process are doing, read from the pools when somebody asks.

Nothing here holds an engine, a pool or a connection alive: an engine that is gone takes its series with it.
"""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool, Pool, SingletonThreadPool, StaticPool

from querywatch import semconv
from querywatch.callsite import Callsite
from querywatch.pool.health import Vitals
from querywatch.pool.saturation import Saturation
from querywatch.settings import Settings
from querywatch.spans import Request, whereabouts

#: Pools with a name of their own; engines beyond share one name, so that an engine for each request stays one series.
MAX_POOLS: Final = 64
_OTHER: Final = "other"
#: Seconds over which a rate is counted: bursts are shorter than a metric interval.
SLOT: Final = 10.0
#: A connection of theirs is nobody's to wait for: who keeps it, leaks nothing.
_UNBOUNDED: Final = (NullPool, StaticPool, SingletonThreadPool)


class Checkout:
    """One connection in use: since when (seconds, monotonic), by which request, from which line."""

    __slots__ = ("callsite", "leaked", "owner", "pool", "proxy", "record", "request", "started", "state")

    def __init__(
        self, state: "PoolState", proxy: Any, record: object, request: Request | None, callsite: Callsite | None
    ) -> None:
        self.state = state
        self.proxy = weakref.ref(proxy)
        self.pool = weakref.ref(proxy._pool)
        self.record = weakref.ref(record)
        self.request = request
        self.callsite = callsite
        self.owner = whereabouts()
        self.started = monotonic()
        #: Whether a finding has told of it.
        self.leaked = False

    @property
    def held(self) -> float:
        """Seconds since the checkout."""
        return monotonic() - self.started

    @property
    def place(self) -> str:
        """`<file>:<line>` of the checkout."""
        return self.callsite.place if self.callsite is not None else "unknown line"

    @property
    def route(self) -> str | None:
        """The route of the request that took it."""
        if self.request is None:
            return None
        self.request.locate()
        return self.request.window.route


@dataclass(frozen=True, slots=True)
class Usage:
    """The state of one pool. Counts are connections; None where the pool has no such bound.

    `idle_max` and `idle_min` are the idle connections it may and must keep, `pending` the calls that wait for one.
    """

    used: int
    idle: int
    max: int | None
    idle_max: int | None
    idle_min: int
    pending: int

    @property
    def utilization(self) -> float | None:
        """Used connections / maximum; None without a maximum."""
        return self.used / self.max if self.max else None


@dataclass(slots=True)
class Totals:
    """What has happened at a pool so far. Times are seconds."""

    checkouts: int = 0
    returns: int = 0
    timeouts: int = 0
    failures: int = 0
    waited: float = 0.0
    used: float = 0.0


class PoolState:
    """What is known of the pool, or the pools in turn, of one engine."""

    def __init__(self, engine: Engine, name: str, settings: Settings) -> None:
        self._engine = weakref.ref(engine)
        self._lock = threading.Lock()
        self.name = name
        self.attributes: Final = {semconv.DB_CLIENT_CONNECTION_POOL_NAME: name}
        self.saturation = Saturation(settings)
        self.totals = Totals()
        self.pending = 0
        #: Connections in use by the id of their record.
        self._checkouts: dict[int, Checkout] = {}
        #: Records of connections, open or not; only pools that do not count for themselves are counted by them.
        self.records: weakref.WeakSet[Any] = weakref.WeakSet()
        #: Checkouts in the present slot of time, and in the busiest one so far.
        self._slot = 0
        self._in_slot = 0
        self._busiest = 0
        self._minute: deque[tuple[float, Totals]] = deque()

    @property
    def engine(self) -> Engine | None:
        """The engine, while somebody else keeps it."""
        return self._engine()

    def waits(self, change: int) -> None:
        """Count a call for a connection that begins (1) or ends (-1)."""
        with self._lock:
            self.pending += change

    def take(self, checkout: Checkout, record: object) -> None:
        """Keep a checkout. A pool that shares its connection hands it out again while it is in use: that is one."""
        self._checkouts.setdefault(id(record), checkout)
        slot = int(checkout.started / SLOT)
        if slot != self._slot:
            self._slot, self._in_slot = slot, 0
        self._in_slot += 1
        self._busiest = max(self._busiest, self._in_slot)

    def give_back(self, record: object) -> Checkout | None:
        """Return the checkout of a record and forget it."""
        return self._checkouts.pop(id(record), None)

    def checkouts(self) -> list[Checkout]:
        """Return the connections in use; one whose record is gone without a return is gone as well."""
        for key, checkout in list(self._checkouts.items()):
            if checkout.record() is None:
                self._checkouts.pop(key, None)
        return list(self._checkouts.values())

    @property
    def peak_rate(self) -> float:
        """Checkouts a second in the busiest 10 seconds so far."""
        return self._busiest / SLOT

    @property
    def use_time(self) -> float:
        """Seconds that a checkout has kept its connection, on average; 0 before the first return."""
        return self.totals.used / self.totals.returns if self.totals.returns else 0.0

    @property
    def can_leak(self) -> bool:
        """Whether a connection that is kept is missed by somebody."""
        engine = self.engine
        return engine is not None and not isinstance(engine.pool, _UNBOUNDED)

    def usage(self) -> Usage | None:
        """Return the state now; None when the engine is gone."""
        engine = self.engine
        return None if engine is None else self._read(engine.pool)

    def utilization(self) -> float:
        """Return used / maximum now, 0 where there is no maximum; cheap enough for every checkout."""
        engine: Any = self.engine
        if engine is None or not hasattr(engine.pool, "checkedout"):
            return 0.0
        overflow: int = getattr(engine.pool, "_max_overflow", -1)
        maximum: int = engine.pool.size() + overflow
        return len(self._checkouts) / maximum if overflow >= 0 and maximum else 0.0

    def _read(self, pool: Any) -> Usage:
        checkouts = self.checkouts()
        if not hasattr(pool, "checkedout"):  # NullPool, StaticPool, SingletonThreadPool, a pool class of the user's own
            return self._counted(pool, len(checkouts))
        # Connections that were out when the engine was disposed of belong to a pool that it has no more.
        orphans = sum(checkout.pool() is not pool for checkout in checkouts)
        overflow = getattr(pool, "_max_overflow", -1)
        return Usage(
            used=max(pool.checkedout(), 0) + orphans,
            idle=max(pool.checkedin(), 0),
            max=pool.size() + overflow if overflow >= 0 else None,
            idle_max=pool.size(),
            idle_min=0,
            pending=self.pending,
        )

    def _counted(self, pool: Pool, used: int) -> Usage:
        connections = sum(record.dbapi_connection is not None for record in list(self.records))
        bound = 1 if isinstance(pool, StaticPool) else None
        kept = 0 if isinstance(pool, NullPool) else bound
        return Usage(used, max(connections - used, 0), bound, kept, 0, self.pending)

    def vitals(self, usage: Usage, now: float) -> Vitals:
        """Return what the last minute (monotonic seconds) tells of the pool's health."""
        before = self._a_minute_ago(now)
        checkouts = self.totals.checkouts - before.checkouts
        waited, used = self.totals.waited - before.waited, self.totals.used - before.used
        return Vitals(
            utilization=usage.utilization or 0.0,
            wait_share=waited / (waited + used) if waited + used else 0.0,
            timeout_share=(self.totals.timeouts - before.timeouts) / checkouts if checkouts else 0.0,
            failure_share=(self.totals.failures - before.failures) / checkouts if checkouts else 0.0,
            leak_share=sum(checkout.leaked for checkout in self.checkouts()) / usage.max if usage.max else 0.0,
        )

    def _a_minute_ago(self, now: float) -> Totals:
        self._minute.append((now, replace(self.totals)))
        while len(self._minute) > 2 and (self._minute[1][0] <= now - 60 or len(self._minute) > 120):
            self._minute.popleft()
        return self._minute[0][1]


class Pools:
    """All pools by their engine, each with a name that no other living one has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._states: weakref.WeakKeyDictionary[Engine, PoolState] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, engine: Any) -> PoolState:
        """Return the state of an engine's pool. A view made by `Engine.execution_options()` shares its engine's."""
        engine = getattr(engine, "_proxied", engine)
        state = self._states.get(engine)
        if state is None:
            with self._lock:
                state = self._states.get(engine)
                if state is None:
                    state = self._states[engine] = PoolState(engine, self._free_name(engine), self._settings)
        return state

    def __iter__(self) -> Iterator[PoolState]:
        with self._lock:
            return iter(list(self._states.values()))

    def _free_name(self, engine: Engine) -> str:
        taken = {state.name for state in self._states.values()}
        if len(taken) >= MAX_POOLS:
            return _OTHER
        name = pool_name(engine)
        numbered = (f"{name}#{number}" for number in range(2, MAX_POOLS + 2))
        return name if name not in taken else next(candidate for candidate in numbered if candidate not in taken)

    def usages(self) -> Iterator[tuple[PoolState, Usage]]:
        """Yield each pool of a living engine with its state now."""
        for state in self:
            usage = state.usage()
            if usage is not None:
                yield state, usage


def pool_name(engine: Engine) -> str:
    """Return `pool_logging_name` or, as the semantic conventions have it, `server.address:server.port/db.namespace`.

    https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#connection-pools
    """
    logging_name: str | None = engine.pool.logging_name
    if logging_name:
        return logging_name
    url = engine.url
    port = f":{url.port}" if url.port else ""
    server = f"{url.host or ''}{port}"
    return "/".join(part for part in (server, url.database) if part) or engine.dialect.name
