"""What the connection pools of this process are doing, read from the pools when somebody asks.

Nothing here holds an engine, a pool or a connection alive: an engine that is gone takes its series with it.
"""

import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool, Pool, StaticPool

from querywatch import semconv

#: Pools with a name of their own; engines beyond share one name, so that an engine for each request stays one series.
MAX_POOLS: Final = 64
_OTHER: Final = "other"


class Checkout:
    """One connection in use. It lives in the record of its connection and dies with it, so that no count can drift."""

    __slots__ = ("__weakref__", "pool", "started", "state")

    def __init__(self, state: "PoolState", pool: Pool) -> None:
        self.state = state
        self.pool = weakref.ref(pool)
        self.started = monotonic()
        state.checkouts.add(self)


@dataclass(frozen=True, slots=True)
class Usage:
    """The state of one pool. Counts are connections; None where the pool has no such bound.

    `idle_max` and `idle_min` are the idle connections it may and must keep, `pending` the requests that wait for one.
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


class PoolState:
    """What is known of the pool, or the pools in turn, of one engine."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = weakref.ref(engine)
        self.name = name
        self.attributes: Final = {semconv.DB_CLIENT_CONNECTION_POOL_NAME: name}
        self.pending = 0
        self.checkouts: weakref.WeakSet[Checkout] = weakref.WeakSet()
        #: Records of connections, open or not; only pools that do not count for themselves are counted by them.
        self.records: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()

    def waits(self, change: int) -> None:
        """Count a request for a connection that begins (1) or ends (-1)."""
        with self._lock:
            self.pending += change

    def usage(self) -> Usage | None:
        """Return the state now; None when the engine is gone."""
        engine = self._engine()
        return None if engine is None else self._read(engine.pool)

    def _read(self, pool: Any) -> Usage:
        checkouts = list(self.checkouts)
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


class Pools:
    """All pools by their engine, each with a name that no other living one has."""

    def __init__(self) -> None:
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
                    state = self._states[engine] = PoolState(engine, self._free_name(engine))
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


def usages(pools: Pools) -> Iterator[tuple[PoolState, Usage]]:
    """Yield each pool of a living engine with its state."""
    for state in pools:
        usage = state.usage()
        if usage is not None:
            yield state, usage


__all__ = ["Checkout", "PoolState", "Pools", "Usage", "pool_name", "usages"]
