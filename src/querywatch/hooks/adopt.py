"""Engines and applications that contrib's instrumentation does not know: each gets contrib's tracing at its first use.

They were made before the instrumentation, by a function that was imported before it, or run on SQLAlchemy 2.1, for
which contrib 0.66b1 instruments nothing.
"""

import logging
import threading
import weakref
from typing import Any, Final

import sqlalchemy

# Not flask.Flask, which contrib replaces by a subclass of it.
from flask.app import Flask
from opentelemetry import trace
from opentelemetry.instrumentation import sqlalchemy as contrib
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlalchemy import engine as contrib_engine
from opentelemetry.instrumentation.sqlalchemy.version import __version__ as contrib_version
from opentelemetry.metrics import NoOpMeter
from packaging import requirements, version
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from querywatch.guard import guarded

_logger = logging.getLogger("querywatch")
_CONTRIB_SUPPORTS: Final = requirements.Requirement(contrib.package._instruments[0]).specifier
_lock: Final = threading.Lock()
#: Engines that are traced. Weak: an engine made for one request leaves nothing behind.
_traced: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class EngineAdoption:
    """Looks at every engine when a connection of it is made."""

    def install(self) -> None:
        """Start to look."""
        event.listen(Engine, "engine_connect", _on_connect)
        if version.parse(sqlalchemy.__version__) not in _CONTRIB_SUPPORTS:
            _logger.warning(
                "SQLAlchemy %s: opentelemetry-instrumentation-sqlalchemy %s supports %s and skips it. "
                "QueryWatch traces its engines all the same.",
                sqlalchemy.__version__,
                contrib_version,
                _CONTRIB_SUPPORTS,
            )

    def uninstall(self) -> None:
        """Stop to look; engines that were adopted stay traced."""
        event.remove(Engine, "engine_connect", _on_connect)
        _traced.clear()  # contrib may take its listeners back as well


@guarded
def _on_connect(conn: Connection) -> None:
    engine: Any = conn.engine
    # Engine.execution_options() returns a view of an engine whose listeners run for it as well.
    engine = getattr(engine, "_proxied", engine)
    if engine in _traced:
        return
    with _lock:
        if engine not in _traced and not event.contains(engine, "after_cursor_execute", contrib_engine._after_cur_exec):
            _trace(engine)
        _traced.add(engine)


def _trace(engine: Engine) -> None:
    tracer = trace.get_tracer(contrib.__name__, contrib_version)
    # The deprecated metric of contrib's pool listeners is not exported.
    usage = NoOpMeter(contrib.__name__).create_up_down_counter("db.client.connections.usage")
    contrib_engine.EngineTracer(tracer, engine, usage)


def contrib_records_durations() -> bool:
    """Whether contrib's instrumentation has got a duration histogram of its own."""
    return any("operation_duration" in name.lower() for module in (contrib, contrib_engine) for name in vars(module))


def adopt_app(app: Flask) -> None:
    """Give `app` contrib's request span, unless it has that, or has answered requests already."""
    if _has_request_span(app) or not FlaskInstrumentor().is_instrumented_by_opentelemetry:
        return
    with _lock:
        if not _has_request_span(app) and not app._got_first_request:
            FlaskInstrumentor.instrument_app(app)


def _has_request_span(app: Flask) -> bool:
    return getattr(app, "_is_instrumented_by_opentelemetry", False)
