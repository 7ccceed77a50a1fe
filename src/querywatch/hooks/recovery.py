"""Recovery of pools, for those who asked for it: stale connections are replaced before a request meets them.

The pessimistic test of SQLAlchemy's documentation, for connections that have been idle for a second: under load none is
tested, as a broken one shows at once. https://docs.sqlalchemy.org/en/20/core/pooling.html#custom-legacy-pessimistic-ping
"""

import logging
from time import monotonic
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import Pool

from querywatch.guard import guarded
from querywatch.hooks.pool import POOL
from querywatch.pool.instruments import PoolInstruments
from querywatch.pool.state import PoolState

_logger = logging.getLogger("querywatch")
_RETURNED: Final = "querywatch_returned"
_IDLE: Final = 1.0


class RecoveryHook:
    """Tests connections at their checkout; only there is SQL of ours sent on the application's connections."""

    def __init__(self, instruments: PoolInstruments) -> None:
        self._instruments = instruments

    def install(self) -> None:
        """Start to test."""
        event.listen(Pool, "checkout", self._checkout)
        event.listen(Pool, "checkin", self._checkin)

    def uninstall(self) -> None:
        """Stop to test."""
        event.remove(Pool, "checkout", self._checkout)
        event.remove(Pool, "checkin", self._checkin)

    def _checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        # Not guarded: this error is an answer, upon which the pool replaces its connections and tries again.
        if self._is_stale(connection, record):
            raise InvalidatePoolError("QueryWatch found the connection closed by the database")

    @guarded
    def _checkin(self, connection: Any, record: Any) -> None:
        record.record_info[_RETURNED] = monotonic()

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


def _answers(dialect: Any, connection: Any) -> bool:
    try:
        return bool(dialect.do_ping(connection))
    except dialect.loaded_dbapi.Error:
        return False
