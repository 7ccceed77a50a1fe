"""The telemetry contract, row by row, on the live spans, log records and metrics of an SDK in this process."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import DBAPIError

import live
from cases import loads, statements, writes
from cases.case import Case, Database, teach_sqlite_to_sleep
from cases.models import Author, Book, fill
from live import Sdk, Story
from querywatch import sql
from querywatch.settings import Settings

pytestmark = pytest.mark.sqlalchemy_matrix

SETTINGS = Settings(
    slow_query_threshold=0.2, critical_query_threshold=1.0, slow_request_threshold=2.0, max_queries_per_request=13
)
FINDING = {
    *("querywatch.finding.id", "querywatch.finding.key", "querywatch.severity", "querywatch.finding.count"),
    *("querywatch.finding.distinct", "querywatch.finding.duration", "querywatch.finding.wasted", "querywatch.advice"),
    *("code.file.path", "code.line.number", "code.function.name"),
}


@pytest.fixture(scope="module")
def sdk() -> Iterator[Sdk]:
    with live.instrumented(SETTINGS) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def database(sdk: Sdk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('live') / 'test.db'}")
    teach_sqlite_to_sleep(engine)
    fill(engine)
    yield Database(engine)
    engine.dispose()


def tell(sdk: Sdk, database: Database, case: Case) -> Story:
    return sdk.request(lambda: case.scenario(database), f"/{case.name}")


def case(scenario: Callable[[Any], object]) -> Case:
    (found,) = [
        one for one in (*loads.table.cases, *statements.table.cases, *writes.table.cases) if one.scenario is scenario
    ]
    return found


CHOSEN = [
    (loads.lazy_one_to_many, "querywatch.n_plus_one"),
    (loads.deferred_column, "querywatch.n_plus_one"),
    (statements.session_get_in_a_loop, "querywatch.n_plus_one"),
    (statements.text_with_literals_in_a_loop, "querywatch.n_plus_one"),
    (writes.insert_with_a_flush_for_each_row, "querywatch.n_plus_one"),
    (statements.same_query_again_and_again, "querywatch.redundant_query"),
]


@pytest.mark.parametrize(("scenario", "event_name"), CHOSEN, ids=[scenario.__name__ for scenario, _ in CHOSEN])
def test_event_log_record_and_counter_carry_the_same_finding(
    scenario: Callable[[Any], object], event_name: str, sdk: Sdk, database: Database
) -> None:
    told = tell(sdk, database, case(scenario))
    (event,) = told.root.events
    assert event.name == event_name
    attributes = dict(event.attributes or {})
    assert attributes.keys() == FINDING
    here = case(scenario).here
    assert f"{attributes['code.file.path']}:{attributes['code.line.number']}".endswith(f"/{here}")

    (log,) = told.logs
    record, context = log.log_record, told.root.context
    assert record.event_name == event_name
    assert dict(record.attributes) == attributes | {"http.route": f"/{scenario.__name__}"}
    assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)
    assert record.severity_number is SeverityNumber.WARN
    assert str(attributes["querywatch.finding.key"]) in record.body

    (point,) = told.metrics["querywatch.findings"]
    kind = event_name.removeprefix("querywatch.")
    assert dict(point.attributes) == {
        "querywatch.finding.kind": kind,
        "querywatch.severity": "warning",
        "http.route": f"/{scenario.__name__}",
    }
    assert point.value == 1
    (exemplar,) = point.exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (context.trace_id, context.span_id)

    assert told.attributes["querywatch.findings"] == (kind,)
    assert told.attributes["querywatch.severity"] == "warning"
    assert told.attributes["querywatch.n_plus_one.count"] == (kind == "n_plus_one")


def test_the_spans_of_a_lazy_load(sdk: Sdk, database: Database) -> None:
    """The relationship on each; the line from the second run on; the N+1 from the fifth."""
    told = tell(sdk, database, case(loads.lazy_one_to_many))
    first, *loaded = told.queries
    names = ("querywatch.orm.relationship", "querywatch.n_plus_one", "code.line.number")
    assert [first[name] for name in names] == [None, None, None]
    line = int(case(loads.lazy_one_to_many).here.rpartition(":")[2])
    assert [[query[name] for name in names] for query in loaded] == [
        ["Author.books", None, None],
        ["Author.books", None, line],
        ["Author.books", None, line],
        ["Author.books", None, line],
        ["Author.books", True, line],
        ["Author.books", True, line],
    ]
    assert loaded[1]["code.file.path"] == loads.__file__
    assert loaded[1]["code.function.name"] == "cases.loads.lazy_one_to_many"
    assert {query["querywatch.query.severity"] for query in told.queries} == {None}


def test_every_span_has_fingerprint_and_summary(sdk: Sdk, database: Database) -> None:
    told = tell(sdk, database, case(loads.deferred_column))
    first, *deferred = told.queries
    assert [query["db.query.summary"] for query in told.queries] == ["SELECT author"] * 7
    assert len({query["querywatch.query.fingerprint"] for query in deferred}) == 1
    assert deferred[0]["querywatch.query.fingerprint"] == sql.analyse(deferred[0].text, "sqlite").fingerprint
    assert first["querywatch.query.fingerprint"] != deferred[0]["querywatch.query.fingerprint"]


def test_the_totals_of_a_request_are_those_of_its_spans(sdk: Sdk, database: Database) -> None:
    told = tell(sdk, database, case(loads.lazy_many_to_one))
    assert told.attributes["querywatch.query.count"] == len(told.queries) == 7
    assert told.attributes["querywatch.query.duration"] > 0
    (point,) = told.metrics["querywatch.request.queries"]
    assert (point.count, point.sum, dict(point.attributes)) == (1, 7, {"http.route": "/lazy_many_to_one"})


def test_a_request_without_findings_says_so(sdk: Sdk, database: Database) -> None:
    told = tell(sdk, database, case(loads.parents_one_below_the_threshold))
    assert told.attributes.keys() == {
        "querywatch.query.count",
        "querywatch.query.duration",
        "querywatch.n_plus_one.count",
    }
    assert (told.attributes["querywatch.n_plus_one.count"], told.root.events, told.logs) == (0, (), [])
    assert "querywatch.findings" not in told.metrics


SLOW = [(0.001, None, None), (0.21, "slow", "warning"), (1.01, "critical", "critical")]


@pytest.mark.parametrize(("seconds", "tag", "severity"), SLOW)
def test_a_slow_query_is_tagged(
    seconds: float, tag: str | None, severity: str | None, sdk: Sdk, database: Database
) -> None:
    def scenario() -> None:
        with database.engine.connect() as connection:
            connection.execute(database.sleep(seconds))

    told = sdk.request(scenario, f"/sleep/{seconds}")
    (query,) = told.queries
    assert query["querywatch.query.severity"] == tag
    assert (query["code.line.number"] is None) == (tag is None)
    assert told.attributes.get("querywatch.severity") == severity
    assert [event.name for event in told.root.events] == ([] if tag is None else ["querywatch.slow_query"])
    assert [log.log_record.severity_text for log in told.logs] == {
        None: [],
        "warning": ["WARN"],
        "critical": ["ERROR"],
    }[severity]


def test_a_slow_query_that_fails_is_tagged_and_stays_an_error(sdk: Sdk, database: Database) -> None:
    def scenario() -> None:
        with database.engine.connect() as connection, pytest.raises(DBAPIError):
            connection.execute(database.sleep(0.21, then=database.failure()))

    told = sdk.request(scenario, "/fails")
    (query,) = told.queries
    assert query.span.status.status_code is StatusCode.ERROR
    assert query["querywatch.query.severity"] == "slow"
    assert query["db.query.summary"] == "SELECT author"
    assert [event.name for event in told.root.events] == ["querywatch.slow_query"]


def test_literals_do_not_leave_the_process(sdk: Sdk, database: Database) -> None:
    """Neither those in a text without parameters, nor the values of parameters."""

    def scenario() -> None:
        with database.engine.connect() as connection:
            for n in range(6):
                connection.execute(text(f"SELECT title FROM book WHERE title = 'hunter{n}'")).all()
                connection.execute(text("SELECT id FROM book WHERE title = :title"), {"title": f"hunter{n}"}).all()
        with database.session() as session:
            for n in range(6):
                session.scalars(select(Book).where(Book.title.in_([f"hunter{n}"]))).all()

    told = sdk.request(scenario, "/secret")
    assert told.attributes["querywatch.n_plus_one.count"] == 3
    assert told.queries[0].text == "SELECT title FROM book WHERE title = ?"
    assert told.queries[1].text == "SELECT id FROM book WHERE title = ?"
    exported = [span.to_json() for span in sdk.spans.get_finished_spans()] + [log.to_json() for log in told.logs]
    assert "hunter" not in "".join(exported) + repr(told.metrics)


def test_a_text_with_parameters_stays_as_it_was(sdk: Sdk, database: Database) -> None:
    statement = "SELECT id FROM book WHERE title = ? AND id > 5"

    def scenario() -> None:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(statement, ("x",))

    assert [query.text for query in sdk.request(scenario, "/text").queries] == [statement]


def test_several_findings_are_told_one_by_one(sdk: Sdk, database: Database) -> None:
    """N+1, redundant, volume and slow: sorted kinds, the worst severity, one event and one log record each."""

    def scenario() -> None:
        with database.session() as session:
            for author in session.scalars(select(Author)).all():
                print(len(author.books))
                session.execute(text("SELECT 1"))
            session.execute(database.sleep(2.01))

    told = sdk.request(scenario, "/everything")
    kinds = ("n_plus_one", "query_volume", "redundant_query", "slow_query", "slow_request")
    assert told.attributes["querywatch.findings"] == kinds
    assert told.attributes["querywatch.severity"] == "critical"
    assert told.attributes["querywatch.n_plus_one.count"] == 1
    assert sorted(event.name for event in told.root.events) == [f"querywatch.{kind}" for kind in kinds]
    assert sorted(log.log_record.event_name for log in told.logs) == [f"querywatch.{kind}" for kind in kinds]
    ids = {log.log_record.attributes["querywatch.finding.id"] for log in told.logs}
    assert ids == {(event.attributes or {})["querywatch.finding.id"] for event in told.root.events}
    assert sum(point.value for point in told.metrics["querywatch.findings"]) == len(ids) == 5


def test_other_spans_in_between_change_nothing(sdk: Sdk, database: Database) -> None:
    tracer = trace.get_tracer("tests")

    def scenario() -> None:
        with database.session() as session:
            for author in session.scalars(select(Author)).all():
                with tracer.start_as_current_span("render"), tracer.start_as_current_span("price"):
                    print(len(author.books))
                with tracer.start_as_current_span("call another service", kind=SpanKind.CLIENT):
                    pass

    told = sdk.request(scenario, "/between")
    assert told.events.keys() == {"Author.books"}
    assert told.attributes["querywatch.query.count"] == 7


@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.INTERNAL])
def test_whatever_span_has_no_local_parent_is_a_request(kind: SpanKind, sdk: Sdk, database: Database) -> None:
    told = sdk.request(lambda: loads.lazy_one_to_many(database), f"/{kind.name}", kind)
    assert told.events.keys() == {"Author.books"}


def test_a_query_outside_of_any_request_is_tagged_and_counts_nowhere(sdk: Sdk, database: Database) -> None:
    sdk.spans.clear()
    sdk.logs.clear()
    for n in range(6):
        with database.engine.connect() as connection:
            connection.execute(text("SELECT title FROM book WHERE id = :n"), {"n": n})
    queries = sdk.queries()
    assert [query["db.query.summary"] for query in queries] == ["SELECT book"] * 6
    assert {query["querywatch.n_plus_one"] for query in queries} == {None}
    assert len({query.span.context.trace_id for query in queries}) == 6
    assert sdk.logs.get_finished_logs() == ()


def test_a_thread_with_the_requests_context_belongs_to_it(sdk: Sdk, database: Database) -> None:
    def scenario() -> None:
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(loads.lazy_one_to_many, database))
        thread.start()
        thread.join()

    assert sdk.request(scenario, "/thread").attributes["querywatch.query.count"] == 7


def test_a_thread_without_it_does_not(sdk: Sdk, database: Database) -> None:
    def scenario() -> None:
        thread = threading.Thread(target=loads.lazy_one_to_many, args=(database,))
        thread.start()
        thread.join()

    told = sdk.request(scenario, "/stray")
    assert told.attributes["querywatch.query.count"] == 0
    assert len(told.queries) == 7
    assert {query["querywatch.n_plus_one"] for query in told.queries} == {None}


def test_two_requests_at_once_never_mix(sdk: Sdk, database: Database) -> None:
    turn = threading.Barrier(2)
    tracer = trace.get_tracer("tests")

    def request(name: str) -> None:
        with tracer.start_as_current_span(name, kind=SpanKind.SERVER), database.session() as session:
            for author in session.scalars(select(Author).limit(3)).all():
                turn.wait(timeout=30)
                print(len(author.books))

    sdk.spans.clear()
    threads = [threading.Thread(target=request, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    roots = [span for span in sdk.spans.get_finished_spans() if span.name in ("one", "two")]
    assert [(span.attributes or {}).get("querywatch.query.count") for span in roots] == [4, 4]
    assert [span.events for span in roots] == [(), ()]
