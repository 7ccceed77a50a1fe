"""The way of a connection: asked for, waited for, made, used, returned."""

import functools
from time import monotonic, time
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

#: Where an engine keeps its state. It is asked for at every checkout, and a weak dictionary costs more.
_STATE: Final = "_querywatch_pool"
#: Where the record of a connection keeps whose it is, who uses it, and how long a new one took, in seconds.
POOL: Final = "querywatch_pool"
_CHECKOUT: Final = "querywatch_checkout"
_CREATED: Final = "querywatch_created"
#: `_acquired`, its guard, and `raw_connection`.
_OWN_FRAMES: Final = 3


class PoolHook:
    """Wraps `Engine.raw_connection`, the one way of a connection to an engine, whatever the class of its pool.

    SQLAlchemy has no event for waiting and none for a time-out.
    """

    def __init__(self, pools: Pools, instruments: PoolInstruments, watch: PoolWatch) -> None:
        self._pools = pools
        self._instruments = instruments
        self._watch = watch
        self._original = Engine.raw_connection
        self._listeners: tuple[tuple[str, Any], ...] = (
            ("connect", self._connected),
            ("checkin", self._returned),
            ("detach", self._returned),
        )

    def install(self) -> None:
        """Start to watch every pool, those that exist included."""
        hook, original = self, self._original

        @functools.wraps(original)
        def raw_connection(engine: Engine) -> Any:
            state = hook._state(engine)
            if state is None:
                return original(engine)
            waiting, full, started = state.waiting, state.utilization >= 1, monotonic()
            waiting.append(None)
            try:
                connection = original(engine)
            except BaseException as error:
                hook._failed(state, monotonic() - started, error)
                raise
            finally:
                waiting.pop()
            hook._acquired(state, connection, started, full)
            return connection

        setattr(Engine, "raw_connection", raw_connection)  # noqa: B010 - a type checker objects to the plain assignment
        for name, listener in self._listeners:
            event.listen(Pool, name, listener)

    def uninstall(self) -> None:
        """Stop to watch: what was known is forgotten, and gauges have no series any more."""
        setattr(Engine, "raw_connection", self._original)  # noqa: B010
        for name, listener in self._listeners:
            event.remove(Pool, name, listener)
        self._pools.forget()
        self._watch.stop()

    def _state(self, engine: Engine) -> PoolState | None:
        known: tuple[PoolHook, PoolState] | None = vars(engine).get(_STATE)
        if known is not None and known[0] is self:
            return known[1]
        return self._new_state(engine)

    @guarded
    def _new_state(self, engine: Engine) -> PoolState:
        state = self._pools.of(engine)
        setattr(engine, _STATE, (self, state))
        return state

    @guarded
    def _connected(self, connection: Any, record: Any) -> None:
        # `do_connect` would tell the start, but not of engines with a `creator`.
        record.record_info[_CREATED] = max(time() - record.starttime, 0.0)

    @guarded
    def _failed(self, state: PoolState, waited: float, error: BaseException) -> None:
        state.totals.checkouts += 1
        if isinstance(error, PoolTimeoutError):
            state.totals.timeouts += 1
            state.totals.waited += waited
            self._instruments.timeouts.add(1, state.attributes)
            self._instruments.wait_time.record(waited, state.attributes)
            self._watch.timed_out(state)
        elif isinstance(error, Exception):  # and no cancelled task, which says nothing of the database
            state.totals.failures += 1

    @guarded
    def _acquired(self, state: PoolState, connection: Any, started: float, full: bool) -> None:
        now = monotonic()
        waited = now - started
        record = connection._connection_record
        info = record.record_info
        if _CREATED in info:
            waited = max(waited - self._created(state, connection, record), 0.0)
        totals = state.totals
        totals.checkouts += 1
        if full:
            totals.waited += waited
        self._instruments.wait_time.record(waited, state.attributes)
        if _CHECKOUT not in info:  # a pool that shares its connection hands it out again while it is in use
            checkout = Checkout(state, record.fairy_ref, now, spans.current(), callsite.find(_OWN_FRAMES))
            info[_CHECKOUT] = checkout
            state.taken.add(checkout)
            self._watch.checked_out(state)

    def _created(self, state: PoolState, connection: Any, record: Any) -> float:
        """Note a new connection and return the seconds that it took."""
        created: float = record.record_info.pop(_CREATED)
        record.record_info[POOL] = state
        state.know(record, getattr(connection, "_pool", None))
        self._instruments.create_time.record(created, state.attributes)
        return created

    @guarded
    def _returned(self, connection: Any, record: Any) -> None:
        checkout: Checkout | None = record.record_info.pop(_CHECKOUT, None)
        if checkout is None:
            return
        state = checkout.state
        state.taken.discard(checkout)
        held = monotonic() - checkout.started
        state.totals.used += held
        state.totals.returns += 1
        self._instruments.use_time.record(held, state.attributes)
        if checkout.leaked:
            self._watch.returned(checkout)
