"""The engine's cursor events: every query is timed, tagged on its live span, and counted to its request."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.util.types import AttributeValue
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, ExceptionContext
from sqlalchemy.orm.unitofwork import UOWTransaction

from querywatch import callsite, semconv, spans, sql
from querywatch.detectors import n_plus_one, slow_query
from querywatch.findings import Kind
from querywatch.guard import guarded
from querywatch.hooks.orm import LOAD_OPTION
from querywatch.metrics import OperationDuration
from querywatch.settings import Settings
from querywatch.window import Group, Load, Query

#: Where the start of an execution is kept: on its context, which lives as long as the execution does.
_STARTED: Final = "_querywatch_started"
#: Where contrib's instrumentation keeps its span, on the same object. It never makes that span the current one.
_SPAN: Final = "_otel_span"
#: Where the database's names are kept: on the engine, with which they go.
_LABELS: Final = "_querywatch_labels"
#: The semantic conventions' names of systems, where SQLAlchemy has another one.
_SYSTEMS: Final = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}
_FLUSH: Final = UOWTransaction.execute.__code__


class Execution(NamedTuple):
    """One cursor execution as SQLAlchemy tells of it. `duration` is seconds, `many` an executemany."""

    engine: Engine
    text: Any
    parameters: Any
    context: Any
    many: bool
    duration: float
    error: BaseException | None = None

    def analysed(self) -> sql.Statement:
        """Return the statement. A compiled one is known by its template: one text for all lengths of an IN list."""
        compiled = self.context.compiled
        if compiled is None or self.context.execution_options.get("schema_translate_map"):
            return sql.analyse(self.text, self.engine.dialect.name)
        return sql.analyse(compiled.string, self.engine.dialect.name)

    def shows_values(self, statement: sql.Statement) -> bool:
        """Whether the text that was sent holds values: it has no parameters, or some were rendered into it."""
        return (not self.parameters and statement.has_literals) or self._has_rendered_parameters()

    def query(self, statement: sql.Statement, load: Load | None, where: callsite.Callsite | None) -> Query:
        """Return what the window keeps of this execution: no values, only hashes of them."""
        flush = callsite.subject_of(_FLUSH) if statement.is_write else None
        if load is not None:
            return Query(statement, self.duration, load.subject, load.subject, load, where)
        if self.many or statement.inserts_many:
            return Query(statement, self.duration, 0, 0, None, where, True, flush)
        subject = hash((statement.literals, self._hash_of_parameters()))
        return Query(statement, self.duration, subject, self._condition(statement, subject), None, where, False, flush)

    def _hash_of_parameters(self) -> int:
        values = self.parameters
        if type(values) is not tuple:  # as it is with most drivers
            values = tuple(values.values() if isinstance(values, Mapping) else values or ())
        if self._has_rendered_parameters():  # comments in the text are no values
            values = (sql.analyse(self.text, self.engine.dialect.name).literals, *values)
        return sql.hash_values(values)

    def _condition(self, statement: sql.Statement, subject: int) -> int:
        if statement.is_plain:
            return subject
        roles = statement.roles
        values = self._values(roles.names)
        return subject if len(values) != len(roles.names) else roles.condition(values)

    def _values(self, names: Sequence[str]) -> Sequence[Any]:
        """Return the values of the statement's placeholders in their order, none where they can't be told."""
        compiled = self.context.compiled
        if compiled is not None and self.context.compiled_parameters:
            named = _with_lists(self.context)
            chosen = _names_in_order(names, getattr(compiled, "positiontup", None) or names)
            return [named[name] for name in chosen] if named.keys() >= set(chosen) else ()
        if isinstance(self.parameters, Mapping):
            return [self.parameters.get(name) for name in names]
        return _in_order(names, self.parameters or ())

    def _has_rendered_parameters(self) -> bool:
        return bool(getattr(self.context.compiled, "literal_execute_params", None))


def _with_lists(context: Any) -> Mapping[str, Any]:
    """Return the parameters by name; those of an IN list, which SQLAlchemy has renamed one by one, as one tuple."""
    named: Mapping[str, Any] = context.compiled_parameters[0]
    lists: Mapping[str, Sequence[str]] = getattr(context, "_expanded_parameters", {})
    return {**named, **{name: tuple(named.get(one) for one in ones) for name, ones in lists.items()}}


def _names_in_order(names: Sequence[str], positions: Sequence[str]) -> Sequence[str]:
    """Return the name of each placeholder; IN lists have none of the numbers of `$1`, theirs come later."""
    if not any(name.isdigit() for name in names):
        return positions
    return _in_order(names, [name for name in positions if name not in names])


def _in_order(names: Sequence[str], positional: Sequence[Any]) -> Sequence[Any]:
    """Return what stands for each placeholder: `$1` and `:1` name a position, `?` and `%s` come one after the other."""
    if not any(name.isdigit() for name in names):
        return positional
    if any(int(name) > len(positional) for name in names if name.isdigit()):
        return ()
    return [positional[int(name) - 1] if name.isdigit() else name for name in names]


class EngineHooks:
    """Listeners on the `Engine` class.

    They run for every engine, and before contrib's listeners on each engine, so that the span is still recording
    (measured on SQLAlchemy 2.0.50 to 2.1.9).
    """

    def __init__(self, settings: Settings, durations: OperationDuration | None) -> None:
        self._settings = settings
        self._durations = durations
        self._listeners: dict[str, Callable[..., Any]] = {
            "before_cursor_execute": self._before,
            "after_cursor_execute": self._after,
            "handle_error": self._failed,
        }

    def install(self) -> None:
        """Listen to all engines, those that exist included."""
        for name, listener in self._listeners.items():
            event.listen(Engine, name, listener)

    def uninstall(self) -> None:
        """Take the listeners back."""
        for name, listener in self._listeners.items():
            event.remove(Engine, name, listener)

    @guarded
    def _before(self, conn: Connection, cursor: Any, statement: Any, parameters: Any, context: Any, many: bool) -> None:
        setattr(context, _STARTED, perf_counter())

    @guarded
    def _after(self, conn: Connection, cursor: Any, statement: Any, parameters: Any, context: Any, many: bool) -> None:
        started = vars(context).pop(_STARTED, None)
        if started is not None:
            self._executed(Execution(conn.engine, statement, parameters, context, many, perf_counter() - started))

    @guarded
    def _failed(self, failure: ExceptionContext) -> None:
        context: Any = failure.execution_context
        # Without a start this is an error while fetching: the execution has been counted already.
        started = None if context is None else vars(context).pop(_STARTED, None)
        if started is not None:
            duration = perf_counter() - started
            text, parameters, many = failure.statement, failure.parameters, context.executemany
            engine = context.root_connection.engine
            self._executed(Execution(engine, text, parameters, context, many, duration, failure.original_exception))

    def _executed(self, execution: Execution) -> None:
        span: trace.Span | None = getattr(execution.context, _SPAN, None)
        if span is None and not is_instrumentation_enabled():
            return
        statement = execution.analysed()
        if self._durations is not None:
            self._durations.record(execution.duration, _labels(execution), statement, self._exemplar(execution, span))
        tags: dict[str, AttributeValue] = {
            semconv.QUERY_FINGERPRINT: statement.fingerprint,
            semconv.DB_QUERY_SUMMARY: statement.summary,
        }
        if statement.is_query:
            self._count(execution, statement, tags)
        if span is not None and span.is_recording():
            if execution.shows_values(statement):
                tags |= _text_without_literals(span, statement.text)
            span.set_attributes(tags)

    def _exemplar(self, execution: Execution, span: trace.Span | None) -> Context | None:
        """Return the context of a slow query's span: from its bucket in Prometheus to its trace."""
        if span is None or not slow_query.is_slow(execution.duration, self._settings):
            return None
        return trace.set_span_in_context(span)

    def _count(self, execution: Execution, statement: sql.Statement, tags: dict[str, AttributeValue]) -> None:
        """Count a query to its request, and add to `tags` what this tells of it."""
        request = spans.current()
        if request is not None:
            request.know_trace()
        settings = self._settings if request is None else request.window.settings
        slow = slow_query.is_slow(execution.duration, settings)
        load: Load | None = execution.context.execution_options.get(LOAD_OPTION)
        where: callsite.Callsite | None = None
        if slow or (request is not None and (load is None or request.window.has_seen(load))):
            where = callsite.find()
        group: Group | None = None
        if request is not None:
            group = request.window.add(execution.query(statement, load, where), slow=slow)
        if slow:
            critical = slow_query.is_critical(execution.duration, settings)
            tags[semconv.QUERY_SEVERITY] = "critical" if critical else "slow"
        if load is not None and load.is_relationship:
            tags[semconv.ORM_RELATIONSHIP] = load.name
        if request is not None and group is not None and _is_n_plus_one(group, request):
            tags[semconv.N_PLUS_ONE] = True
        if where is not None and (slow or (group is not None and group.runs > 1)):
            tags |= where.attributes()


def _labels(execution: Execution) -> dict[str, str | int]:
    """Return which database it was, and the error where there was one."""
    engine: Any = execution.engine
    labels: dict[str, str | int] | None = getattr(engine, _LABELS, None)
    if labels is None:
        labels = _database(engine)
        setattr(engine, _LABELS, labels)
    error = execution.error
    return labels if error is None else {**labels, semconv.ERROR_TYPE: type(error).__qualname__}


def _database(engine: Engine) -> dict[str, str | int]:
    url = engine.url
    names = {
        semconv.DB_SYSTEM_NAME: _SYSTEMS.get(engine.dialect.name, engine.dialect.name),
        semconv.DB_NAMESPACE: url.database,
        semconv.SERVER_ADDRESS: url.host,
        semconv.SERVER_PORT: url.port,
    }
    return {name: value for name, value in names.items() if value is not None}


def _is_n_plus_one(group: Group, request: spans.Request) -> bool:
    """Whether the group has reached the threshold by now, and nobody wants it ignored."""
    settings = request.window.settings
    if n_plus_one.verdict(group, settings) is not Kind.N_PLUS_ONE:
        return False
    if settings.ignore and group.ignored is None:
        request.locate()
        group.ignored = settings.ignores(group.key, group.statement.fingerprint, request.window.route)
    return not group.ignored


def _text_without_literals(span: trace.Span, text: str) -> dict[str, AttributeValue]:
    """Return the text under the name that contrib has used for it: the stable one, the old one, or both."""
    present = getattr(span, "attributes", None) or {}
    return {name: text for name in (semconv.DB_QUERY_TEXT, semconv.DB_STATEMENT) if name in present}
