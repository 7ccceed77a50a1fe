"""Recovery of pools, for those who asked for it: stale connections are replaced, left ones are given back.

The pessimistic test of SQLAlchemy's documentation, for connections that have been idle for a second: under load none is
tested, as a broken one shows at once. https://docs.sqlalchemy.org/en/20/core/pooling.html#custom-legacy-pessimistic-ping
"""

import logging
import weakref
from time import monotonic
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool

from querywatch.guard import guarded
from querywatch.hooks.pool import POOL
from querywatch.pool.instruments import PoolInstruments
from querywatch.pool.state import Checkout, PoolState
from querywatch.pool.watch import PoolWatch
from querywatch.spans import Request, whereabouts

_logger = logging.getLogger("querywatch")
#: Where the record of a connection keeps when it came back, and who has it: weak references, the outermost last.
_RETURNED: Final = "querywatch_returned"
_HOLDERS: Final = "querywatch_holders"
_IDLE: Final = 1.0


class RecoveryHook:
    """Tests connections at their checkout; only there is SQL of ours sent on the application's connections."""

    def __init__(self, watch: PoolWatch, instruments: PoolInstruments) -> None:
        self._watch = watch
        self._instruments = instruments
        self._listeners: tuple[tuple[type, str, Any], ...] = (
            (Pool, "checkout", self._checkout),
            (Pool, "checkin", self._checkin),
            (Engine, "engine_connect", self._connection),
            (Session, "after_begin", self._session),
        )

    def install(self) -> None:
        """Start to test."""
        for target, name, listener in self._listeners:
            event.listen(target, name, listener)

    def uninstall(self) -> None:
        """Stop to test."""
        for target, name, listener in self._listeners:
            event.remove(target, name, listener)

    def _checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        # Not guarded: this error is an answer, upon which the pool replaces its connections and tries again.
        if self._is_stale(connection, record):
            raise InvalidatePoolError("QueryWatch found the connection closed by the database")

    @guarded
    def _checkin(self, connection: Any, record: Any) -> None:
        record.record_info[_RETURNED] = monotonic()
        record.record_info.pop(_HOLDERS, None)

    @guarded
    def _connection(self, conn: Any) -> None:
        _hold(conn, conn)

    @guarded
    def _session(self, session: Session, transaction: Any, connection: Any) -> None:
        _hold(connection, session)

    @guarded
    def request_closed(self, request: Request) -> None:
        """Give back what `request` has left behind; only in the thread that took it, and not for asyncio's loop."""
        here = whereabouts()
        for checkout in self._watch.left_behind(request):
            engine = checkout.state.engine
            if checkout.owner == here and engine is not None and not engine.dialect.is_async:
                self._give_back(checkout)

    def _give_back(self, checkout: Checkout) -> None:
        proxy = checkout.proxy()
        if proxy is None:
            return
        # A session that is closed can be used again; the connection beneath it taken away, it could not.
        for reference in reversed((proxy.record_info or {}).get(_HOLDERS, [])):
            holder = reference()
            if holder is not None:
                holder.close()
        if checkout in checkout.state.taken:
            proxy.close()
        _logger.warning("pool %s: the connection taken at %s is given back", checkout.state.name, checkout.place)
        self._instruments.recovered(checkout.state, "returned")

    @guarded
    def _is_stale(self, connection: Any, record: Any) -> bool:
        state: PoolState | None = record.record_info.get(POOL)
        returned: float | None = record.record_info.pop(_RETURNED, None)
        engine: Any = None if state is None else state.engine
        if state is None or engine is None or returned is None or monotonic() - returned < _IDLE:
            return False
        if _answers(engine.dialect, connection):
            return False
        _logger.warning("pool %s: the database has closed its connections, they are replaced", state.name)
        self._instruments.recovered(state, "replaced")
        return True


def _hold(connection: Any, holder: object) -> None:
    info: dict[Any, Any] | None = connection.connection.record_info
    if info is not None:
        info.setdefault(_HOLDERS, []).append(weakref.ref(holder))


def _answers(dialect: Any, connection: Any) -> bool:
    try:
        return bool(dialect.do_ping(connection))
    except dialect.loaded_dbapi.Error:
        return False
