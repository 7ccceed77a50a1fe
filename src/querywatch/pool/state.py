"""What the connection pools of this process are doing, read from the pools when somebody asks.

Nothing here holds an engine, a pool or a connection alive: an engine that is gone takes its series with it.
"""

import itertools
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool, Pool, QueuePool, SingletonThreadPool, StaticPool

from querywatch import semconv
from querywatch.callsite import Callsite
from querywatch.guard import guarded
from querywatch.pool.health import Vitals
from querywatch.pool.saturation import Saturation
from querywatch.settings import Settings
from querywatch.spans import Request, whereabouts

#: Names of pools in the life of a process; engines beyond share one, so that an engine for each tenant stays bounded.
MAX_POOLS: Final = 64
_OTHER: Final = "other"
#: Seconds over which a rate is counted: bursts are shorter than a metric interval.
SLOT: Final = 10.0
#: A connection of theirs is nobody's to wait for: who keeps it, leaks nothing.
_UNBOUNDED: Final = (NullPool, StaticPool, SingletonThreadPool)


class Checkout:
    """One connection in use: since when (seconds, monotonic), by which request, from which line."""

    __slots__ = ("callsite", "leaked", "owner", "proxy", "request", "started", "state")

    def __init__(
        self, state: "PoolState", proxy: Any, started: float, request: Request | None, callsite: Callsite | None
    ) -> None:
        self.state = state
        #: A weak reference to SQLAlchemy's proxy of the connection, which goes when nobody uses it any more.
        self.proxy = proxy
        self.started = started
        self.request = request
        self.callsite = callsite
        self.owner = whereabouts() if request is not None else None
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
    def pool(self) -> Pool | None:
        """The pool that it came from, not its engine's any more when that was disposed of; None when it is back."""
        return getattr(self.proxy(), "_pool", None)

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
    """What has happened at a pool so far. Times are seconds; `waited` is for connections that others held.

    `checkouts` are the calls, successful or not. Only health and advice are made of these: nothing is locked for them,
    and two threads may count as one.
    """

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
        self.name = name
        self.attributes: Final = {semconv.DB_CLIENT_CONNECTION_POOL_NAME: name}
        self.saturation = Saturation(settings)
        self.totals = Totals()
        #: Connections that the pool may open; infinite where it has no such bound.
        self.maximum = capacity(engine.pool) or math.inf
        self._minute: deque[tuple[float, Totals]] = deque([(monotonic(), Totals())])
        #: Checkouts so far, now and then in the last `SLOT`, and most of them within one.
        self._rates: deque[tuple[float, int]] = deque([(monotonic(), 0)])
        self._busiest = 0
        self.forked()

    def forked(self) -> None:
        """Forget what only threads of the parent process do, and locks that they may have held."""
        self.lock = threading.RLock()
        #: One item for each call that waits: appending and popping needs no lock.
        self.waiting: deque[None] = deque()
        #: Connections in use; adding and discarding needs no lock.
        self.taken: set[Checkout] = set()
        #: Records of the connections that `_pool`, the engine's last one, has made.
        self._records: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pool: Callable[[], Pool | None] = _nothing

    @property
    def engine(self) -> Engine | None:
        """The engine, while somebody else keeps it."""
        return self._engine()

    def know(self, record: object, pool: Pool | None) -> None:
        """Note a record whose connection was made anew."""
        engine = self.engine
        if engine is None or pool is not engine.pool:
            return
        with self.lock:
            if self._pool() is not pool:
                self._pool, self._records = weakref.ref(pool), weakref.WeakSet()
            self._records.add(record)
        self.maximum = capacity(pool) or math.inf

    def checkouts(self) -> list[Checkout]:
        """Return the connections in use; one that nobody has any more is gone, whatever became of it."""
        found = list(self.taken)
        for checkout in found:
            if checkout.proxy() is None:
                self.taken.discard(checkout)
        return [checkout for checkout in found if checkout in self.taken]

    def note_rate(self, now: float) -> None:
        """Compare the checkouts of the last 10 seconds with the busiest so far. `now` is monotonic seconds."""
        checkouts = self.totals.checkouts
        with self.lock:
            self._rates.append((now, checkouts))
            while len(self._rates) > 2 and self._rates[1][0] <= now - SLOT:
                self._rates.popleft()
            self._busiest = max(self._busiest, checkouts - self._rates[0][1])

    @property
    def peak_rate(self) -> float:
        """Checkouts a second in the busiest 10 seconds so far."""
        self.note_rate(monotonic())
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

    @property
    def utilization(self) -> float:
        """Used connections / maximum now, 0 where there is no maximum; cheap enough for every checkout."""
        return len(self.taken) / self.maximum

    def usage(self) -> Usage | None:
        """Return the state now; None when the engine is gone."""
        engine = self.engine
        return None if engine is None else self._read(engine.pool)

    def _read(self, pool: Pool) -> Usage:
        checkouts, pending = self.checkouts(), len(self.waiting)
        with self.lock:
            records = list(self._records) if self._pool() is pool else []
        closed = sum(record.dbapi_connection is None for record in records)
        if not isinstance(pool, QueuePool):
            kept = 0 if isinstance(pool, NullPool) else getattr(pool, "size", None)
            idle = 0 if kept == 0 else max(len(records) - closed - len(checkouts), 0)
            return Usage(len(checkouts), idle, None, kept if isinstance(kept, int) else None, 0, pending)
        # Connections that were out when the engine was disposed of belong to a pool that it has no more. A record whose
        # connection was detached or invalidated is back in the queue, and has none.
        orphans = sum(checkout.pool not in (None, pool) for checkout in checkouts)
        used = max(pool.checkedout(), 0) + orphans
        return Usage(used, max(pool.checkedin() - closed, 0), capacity(pool), pool.size() or None, 0, pending)

    def vitals(self, usage: Usage, now: float) -> Vitals:
        """Return what the last minute (monotonic seconds) tells of the pool's health."""
        checkouts = self.checkouts()
        in_use = sum(now - checkout.started for checkout in checkouts)
        totals = replace(self.totals, used=self.totals.used + in_use)
        before = self._a_minute_ago(now, totals)
        asked = totals.checkouts - before.checkouts
        waited, used = totals.waited - before.waited, totals.used - before.used
        return Vitals(
            utilization=usage.utilization or 0.0,
            wait_share=waited / (waited + used) if waited > 0 < used else float(waited > 0),
            timeout_share=(totals.timeouts - before.timeouts) / asked if asked else 0.0,
            failure_share=(totals.failures - before.failures) / asked if asked else 0.0,
            leak_share=sum(checkout.leaked for checkout in checkouts) / usage.max if usage.max else 0.0,
        )

    def _a_minute_ago(self, now: float, totals: Totals) -> Totals:
        self._minute.append((now, totals))
        while len(self._minute) > 2 and (self._minute[1][0] <= now - 60 or len(self._minute) > 120):
            self._minute.popleft()
        return self._minute[0][1]


class Pools:
    """All pools by their engine, each with a name that no other living one has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names: set[str] = set()
        os.register_at_fork(after_in_child=self.forked)
        self.forget()

    def forget(self) -> None:
        """Know no engine."""
        self._states: weakref.WeakKeyDictionary[Engine, PoolState] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()

    @guarded
    def forked(self) -> None:
        """Start anew in a child process, with the engines of its parent."""
        self._lock = threading.RLock()
        for state in self:
            state.forked()

    def of(self, engine: Any) -> PoolState:
        """Return the state of an engine's pool. A view made by `Engine.execution_options()` shares its engine's."""
        while (inner := getattr(engine, "_proxied", None)) is not None:  # views of views, and of asynchronous engines
            engine = inner
        with self._lock:
            state = self._states.get(engine)
            if state is None:
                state = self._states[engine] = PoolState(engine, self._free_name(engine), self._settings)
            return state

    def __iter__(self) -> Iterator[PoolState]:
        with self._lock:
            return iter(list(self._states.values()))

    def _free_name(self, engine: Engine) -> str:
        """Return a name; the process knows a bounded number of them, as histograms keep each for ever."""
        taken = {state.name for state in self._states.values()}
        wanted = pool_name(engine)
        numbered = (f"{wanted}#{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([wanted], numbered) if name not in taken)
        if name not in self._names and len(self._names) >= MAX_POOLS:
            return _OTHER
        self._names.add(name)
        return name

    def usages(self) -> Iterator[tuple[PoolState, Usage]]:
        """Yield each pool of a living engine with its state now."""
        for state in self:
            usage = state.usage()
            if usage is not None:
                yield state, usage


def capacity(pool: Pool) -> int | None:
    """Return how many connections a pool may open; None where it has no bound at which it makes others wait."""
    if not isinstance(pool, QueuePool):
        return None
    overflow: int = getattr(pool, "_max_overflow", -1)
    return pool.size() + overflow if overflow >= 0 else None


def _nothing() -> None:
    return None


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
