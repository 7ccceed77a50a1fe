"""The way of a connection: asked for, waited for, made, used, returned."""

import functools
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool

from querywatch import callsite, spans
from querywatch.guard import guarded
from querywatch.pool.instruments import PoolInstruments
from querywatch.pool.state import Checkout, Pools, PoolState
from querywatch.pool.watch import PoolWatch


class Wait:
    """One call for a connection. Times are seconds."""

    __slots__ = ("connecting", "created", "outer", "started", "state")

    def __init__(self, state: PoolState, outer: "Wait | None") -> None:
        self.state = state
        #: The call within which this one happens: a new connection may need one of another engine.
        self.outer = outer
        self.started = monotonic()
        #: When a new connection began to be made, and how long that took.
        self.connecting: float | None = None
        self.created = 0.0


#: Where the record of a connection keeps whose it is.
POOL: Final = "querywatch_pool"

_wait: ContextVar[Wait | None] = ContextVar("querywatch_pool_wait", default=None)


class PoolHook:
    """Wraps `Engine.raw_connection`, the one way of a connection to an engine, whatever the class of its pool.

    SQLAlchemy has no event for waiting and none for a time-out.
    """

    def __init__(self, pools: Pools, instruments: PoolInstruments, watch: PoolWatch) -> None:
        self._pools = pools
        self._instruments = instruments
        self._watch = watch
        self._original = Engine.raw_connection
        self._listeners: tuple[tuple[type, str, Any], ...] = (
            (Engine, "do_connect", self._connecting),
            (Pool, "connect", self._connected),
            (Pool, "checkin", self._returned),
            (Pool, "detach", self._returned),
        )

    def install(self) -> None:
        """Start to watch every pool, those that exist included."""
        hook, original = self, self._original

        @functools.wraps(original)
        def raw_connection(engine: Engine) -> Any:
            wait = hook._begin(engine)
            try:
                connection = original(engine)
            except BaseException as error:
                hook._failed(wait, error)
                raise
            hook._acquired(wait, connection)
            return connection

        setattr(Engine, "raw_connection", raw_connection)  # noqa: B010 - a type checker objects to the plain assignment
        for target, name, listener in self._listeners:
            event.listen(target, name, listener)

    def uninstall(self) -> None:
        """Stop to watch."""
        setattr(Engine, "raw_connection", self._original)  # noqa: B010
        for target, name, listener in self._listeners:
            event.remove(target, name, listener)

    @guarded
    def _begin(self, engine: Engine) -> Wait:
        wait = Wait(self._pools.of(engine), _wait.get())
        wait.state.waits(1)
        _wait.set(wait)
        return wait

    @guarded
    def _connecting(self, dialect: Any, record: Any, arguments: Any, keywords: Any) -> None:
        wait = _wait.get()
        if wait is not None:
            wait.connecting = monotonic()

    @guarded
    def _connected(self, connection: Any, record: Any) -> None:
        wait = _wait.get()
        if wait is None:
            return
        wait.state.records.add(record)
        if wait.connecting is not None:
            created = monotonic() - wait.connecting
            wait.created += created
            wait.connecting = None
            self._instruments.create_time.record(created, wait.state.attributes)

    @guarded
    def _failed(self, wait: Wait | None, error: BaseException) -> None:
        if wait is None:
            return
        self._end(wait)
        if isinstance(error, PoolTimeoutError):
            wait.state.totals.timeouts += 1
            self._instruments.timeouts.add(1, wait.state.attributes)
            self._watch.checked_out(wait.state, timed_out=True)
        else:
            wait.state.totals.failures += 1

    @guarded
    def _acquired(self, wait: Wait | None, connection: Any) -> None:
        if wait is None:
            return
        self._end(wait)
        record = connection._connection_record
        if record is not None:
            request = spans.current()
            record.record_info[POOL] = wait.state
            wait.state.take(Checkout(wait.state, connection, record, request, callsite.find()), record)
            self._watch.checked_out(wait.state)

    def _end(self, wait: Wait) -> None:
        _wait.set(wait.outer)
        state = wait.state
        state.waits(-1)
        waited = max(monotonic() - wait.started - wait.created, 0.0)
        state.totals.checkouts += 1
        state.totals.waited += waited
        self._instruments.wait_time.record(waited, state.attributes)

    @guarded
    def _returned(self, connection: Any, record: Any) -> None:
        state: PoolState | None = record.record_info.get(POOL)
        checkout = None if state is None else state.give_back(record)
        if state is None or checkout is None:
            return
        held = checkout.held
        state.totals.used += held
        state.totals.returns += 1
        self._instruments.use_time.record(held, state.attributes)
        if checkout.leaked:
            self._watch.returned(checkout)
