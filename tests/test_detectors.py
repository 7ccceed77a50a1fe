"""The detectors, given a window: verdicts at their thresholds, severities, and the words of the advice."""

import pytest

from querywatch import detectors, sql
from querywatch.callsite import Callsite
from querywatch.detectors import slow_query
from querywatch.findings import Finding, Kind, Severity, finding_id
from querywatch.settings import Settings
from querywatch.window import Cause, Load, Query, Window

SELECT = sql.analyse("SELECT b.a FROM b WHERE b.author_id = ?")
LINE = Callsite("/app/views.py", 7, "views.show", "views.py:7")
VIEW = Callsite("/app/views.py", 3, "views.show", "views.py:3")
SETTINGS = Settings(slow_query_threshold=0.5, critical_query_threshold=2.0, slow_request_threshold=1.0)


def window(*queries: Query, settings: Settings = SETTINGS, route: str | None = "/authors") -> Window:
    made = Window(settings)
    made.route, made.callsite = route, VIEW
    for one in queries:
        made.add(one, slow=slow_query.is_slow(one.duration, settings))
    return made


def query(subject: int, duration: float = 0.001, statement: sql.Statement = SELECT) -> Query:
    return Query(statement, duration, subject, subject, None, LINE)


def kinds(found: list[Finding]) -> list[tuple[Kind, Severity]]:
    return [(finding.kind, finding.severity) for finding in found]


SLOW = [
    (0.5, []),
    (0.500001, [(Kind.SLOW_QUERY, Severity.WARNING)]),
    (2.0, [(Kind.SLOW_QUERY, Severity.WARNING)]),
    (2.000001, [(Kind.SLOW_QUERY, Severity.CRITICAL)]),
]


@pytest.mark.parametrize(("duration", "expected"), SLOW)
def test_a_query_of_exactly_the_threshold_is_not_over_it(
    duration: float, expected: list[tuple[Kind, Severity]]
) -> None:
    assert kinds(detectors.detect(window(query(1, duration)), 0.0)) == expected


def test_a_request_of_exactly_the_threshold_is_not_slow() -> None:
    assert detectors.detect(window(), 1.0) == []
    assert kinds(detectors.detect(window(), 1.000001)) == [(Kind.SLOW_REQUEST, Severity.WARNING)]


def test_as_many_queries_as_the_maximum_are_no_finding() -> None:
    at, over = ([query(n, statement=sql.analyse(f"SELECT c{n}")) for n in range(count)] for count in (20, 21))
    assert detectors.detect(window(*at), 0.0) == []
    assert kinds(detectors.detect(window(*over), 0.0)) == [(Kind.QUERY_VOLUME, Severity.WARNING)]


GROUPS = [
    # subjects of the runs, verdict
    ([1, 2, 3, 4], None),
    ([1, 2, 3, 4, 5], Kind.N_PLUS_ONE),
    ([1, 1, 1, 1], None),
    ([1, 1, 1, 1, 1], Kind.REDUNDANT_QUERY),
    ([1, 1, 1, 1, 2, 2, 2, 2], None),
    ([1, 1, 1, 1, 1, 2], Kind.REDUNDANT_QUERY),
    ([1, 1, 1, 1, 1, 2, 3, 4, 5], Kind.N_PLUS_ONE),
]


@pytest.mark.parametrize(("subjects", "kind"), GROUPS)
def test_distinct_parameters_make_an_n_plus_one_and_equal_ones_a_redundant_query(
    subjects: list[int], kind: Kind | None
) -> None:
    found = detectors.detect(window(*[query(subject) for subject in subjects]), 0.0)
    assert [finding.kind for finding in found] == ([] if kind is None else [kind])


@pytest.mark.parametrize(("each", "severity"), [(0.125, Severity.WARNING), (0.126, Severity.CRITICAL)])
def test_an_n_plus_one_is_critical_when_it_wasted_more_than_a_slow_query(each: float, severity: Severity) -> None:
    """All runs but the first are wasted: four of five."""
    (finding,) = detectors.detect(window(*[query(n, each) for n in range(5)]), 0.0)
    assert (finding.kind, finding.severity) == (Kind.N_PLUS_ONE, severity)
    assert (finding.duration, finding.wasted) == pytest.approx((5 * each, 4 * each))


def test_a_slow_query_wastes_its_time_over_the_threshold() -> None:
    (finding,) = detectors.detect(window(query(1, 0.7), query(1, 1.0)), 0.0)
    assert (finding.count, finding.distinct) == (2, 1)
    assert (finding.duration, finding.wasted) == pytest.approx((1.7, 0.7))


def test_the_findings_on_queries_come_by_wasted_time_after_those_on_the_request() -> None:
    loop = [query(n, 0.1) for n in range(5)]
    found = detectors.detect(window(*loop, query(9, 3.0, sql.analyse("SELECT 1"))), 5.0)
    assert [finding.kind for finding in found] == [Kind.SLOW_REQUEST, Kind.SLOW_QUERY, Kind.N_PLUS_ONE]


def test_a_slow_request_with_little_database_time_is_told_to_look_elsewhere() -> None:
    busy, idle = detectors.detect(window(query(1, 0.4)), 1.2)[0], detectors.detect(window(query(1, 0.4)), 0.5)
    assert (busy.key, busy.callsite, idle) == ("/authors", VIEW, [])
    assert "33% of 1.20 s went to 1 query" in busy.advice
    assert "profile the application's own code" in busy.advice


def test_a_slow_request_points_to_its_worst_query() -> None:
    found = detectors.detect(window(query(1, 3.0)), 3.1)[0]
    assert found.kind is Kind.SLOW_REQUEST
    assert found.wasted == pytest.approx(2.1)
    assert "begin with the slow_query at views.py:7" in found.advice


@pytest.mark.parametrize("pattern", ["Author.books", "Author.*", "/authors", "/auth*", "*"])
def test_an_ignored_finding_is_none(pattern: str) -> None:
    loads = [Query(SELECT, 0.0, n, n, Load(Cause.COLLECTION, "Author.books", n), LINE) for n in range(5)]
    assert detectors.detect(window(*loads), 0.0)
    assert detectors.detect(window(*loads, settings=Settings(ignore=(pattern,))), 0.0) == []


@pytest.mark.parametrize("pattern", [SELECT.fingerprint, f"{SELECT.fingerprint}@views.py:7", "*@views.py:*"])
def test_a_statement_is_ignored_by_fingerprint_or_line(pattern: str) -> None:
    loop = [query(n) for n in range(5)]
    assert detectors.detect(window(*loop), 0.0)
    assert detectors.detect(window(*loop, settings=Settings(ignore=(pattern,))), 0.0) == []


def test_a_request_publishes_a_bounded_number_of_findings_the_worst_ones() -> None:
    slow = [Query(sql.analyse(f"SELECT c{n}"), 1.0 + n, 1, 1, None, LINE) for n in range(100)]
    found = detectors.detect(window(*slow), 0.0)
    assert len(found) == detectors.MAX_FINDINGS
    assert (found[0].kind, found[1].duration) == (Kind.QUERY_VOLUME, 100.0)


CAUSES = [
    (Cause.COLLECTION, "Author.books", ".options(selectinload(Author.books)) on the query for Author."),
    (Cause.SCALAR, "Book.author", ".options(joinedload(Book.author)) on the query for Book."),
    (
        Cause.DEFERRED,
        "Author.bio,notes",
        ".options(undefer(Author.bio), undefer(Author.notes)) on the query for Author.",
    ),
    (Cause.SUBCLASS, "Editor.language", ".options(selectin_polymorphic(…, [Editor]))."),
    (Cause.COMPUTED, "Loan.changed", "eager_defaults=True in Loan.__mapper_args__"),
    (Cause.REFRESHED, "Author", "5 instances of Author were refreshed one by one"),
    (Cause.EXPIRED, "Author", "5 expired instances of Author were read again one by one"),
]


@pytest.mark.parametrize(("cause", "name", "advice"), CAUSES)
def test_every_cause_has_its_advice(cause: Cause, name: str, advice: str) -> None:
    loads = [Query(SELECT, 0.0, n, n, Load(cause, name, n), LINE) for n in range(5)]
    (finding,) = detectors.detect(window(*loads), 0.0)
    assert (finding.kind, finding.key) == (Kind.N_PLUS_ONE, name)
    assert advice in finding.advice


def test_the_causes_above_are_all_there_are() -> None:
    assert {row[0] for row in CAUSES} == set(Cause)


WRITES = [
    ("INSERT INTO t (a) VALUES (?)", "session.add_all([…]) and one flush, or one insert(t).values([…]) instead of 5."),
    ("DELETE FROM t WHERE t.id = ?", "one delete(t).where(t.id.in_([…])) instead of 5."),
    ("DELETE FROM t WHERE a > ?", "one delete(t).where(…) that names them all instead of 5."),
    ("UPDATE t SET a = ? WHERE id = ?", "one session.execute(update(…), [{…}, …]) on t instead of 5."),
]


@pytest.mark.parametrize(("statement", "advice"), WRITES)
def test_every_write_has_its_advice(statement: str, advice: str) -> None:
    writes = [query(n, statement=sql.analyse(statement)) for n in range(5)]
    (finding,) = detectors.detect(window(*writes), 0.0)
    assert advice in finding.advice


def test_a_finding_has_every_attribute_of_the_contract() -> None:
    (finding,) = detectors.detect(window(*[query(n, 0.25) for n in range(5)]), 0.0)
    key = f"{SELECT.fingerprint}@views.py:7"
    assert finding.attributes() == {
        "querywatch.finding.id": finding_id("n_plus_one", key),
        "querywatch.finding.key": key,
        "querywatch.severity": "critical",
        "querywatch.finding.count": 5,
        "querywatch.finding.distinct": 5,
        "querywatch.finding.duration": 1.25,
        "querywatch.finding.wasted": 1.0,
        "querywatch.advice": (
            "Ask once for all 5: one query with where(b.author_id.in_([…])) before the loop "
            "instead of one in each turn."
        ),
        "code.file.path": "/app/views.py",
        "code.line.number": 7,
        "code.function.name": "views.show",
    }


def test_a_finding_id_is_the_same_in_every_process() -> None:
    assert finding_id("n_plus_one", "Author.books") == "49cd53d0a37950f0"
    assert finding_id("redundant_query", "Author.books") != finding_id("n_plus_one", "Author.books")
