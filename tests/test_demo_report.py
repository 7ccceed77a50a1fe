"""The demo's report: what it makes of received spans and log records, as data, as text, and as JSON."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from querywatch import semconv, settings
from querywatch.demo import waterfall
from querywatch.demo.command import Outcome, as_json
from querywatch.demo.render import Renderer
from querywatch.demo.report import Report, build, complete
from querywatch.demo.telemetry import LogRecord, Span, SpanEvent
from querywatch.demo.walk import Answer

MS = 1_000_000
FINGERPRINT = "00c0ffee00c0ffee"
ADVICE = (
    "Load the books together with their authors: select(Author).options(selectinload(Author.books)), one query for all."
)


@dataclass(frozen=True)
class Stop:
    title: str
    path: str
    expects: tuple[str, ...] = ()
    twin: str | None = None
    method: str = "GET"
    json: Any = None


@dataclass
class Telemetry:
    """Received telemetry, written by hand: requests of 100 ms each, one after the other."""

    answers: list[Answer] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    logs: list[LogRecord] = field(default_factory=list)

    def request(self, stop: Stop, queries: Sequence[dict[str, Any]] = (), *findings: LogRecord) -> str:
        """Add a request whose queries take 5 ms each; return its trace id."""
        number = len(self.answers) + 1
        trace_id, root, start = f"{number:032x}", f"{number:016x}", number * 1000 * MS
        logs = [log(finding, trace_id, root) for finding in findings]
        events = tuple(SpanEvent(entry.event_name, start, entry.attributes) for entry in logs)
        attributes = {
            semconv.HTTP_ROUTE: stop.path,
            "http.request.method": stop.method,
            semconv.QUERY_COUNT: len(queries),
        }
        self.spans += [
            Span(trace_id, f"{root}{index}", "SELECT", begin, begin + 5 * MS, root, "CLIENT", attributes=query)
            for index, (query, begin) in enumerate(zip(queries, itertools.count(start + 5 * MS, 7 * MS), strict=False))
        ]
        name = f"{stop.method} {stop.path}"
        self.spans.append(
            Span(trace_id, root, name, start, start + 100 * MS, "", "SERVER", attributes=attributes, events=events)
        )
        self.logs += logs
        self.answers.append(Answer(stop, 200, start - MS, start + 101 * MS))
        return trace_id

    def report(self) -> Report:
        return build(self.answers, self.spans, self.logs)


def log(finding: LogRecord, trace_id: str, span_id: str) -> LogRecord:
    return LogRecord(finding.event_name, finding.time, None, 13, trace_id, span_id, finding.attributes)


def finding(kind: str, key: str, wasted: float, severity: str = "warning", line: int = 12, runs: int = 6) -> LogRecord:
    attributes = {
        semconv.FINDING_ID: f"{kind}/{key}",
        semconv.FINDING_KEY: key,
        semconv.SEVERITY: severity,
        semconv.FINDING_COUNT: runs,
        semconv.FINDING_DISTINCT: runs,
        semconv.FINDING_DURATION: wasted * 2,
        semconv.FINDING_WASTED: wasted,
        semconv.ADVICE: ADVICE,
        semconv.CODE_FILE_PATH: str(Path.cwd() / "shop" / "a_rather_long_folder_name" / "views.py"),
        semconv.CODE_LINE_NUMBER: line,
    }
    return LogRecord(f"querywatch.{kind}", 0, attributes=attributes)


def query(summary: str, fingerprint: str, relationship: str = "", n_plus_one: bool = False) -> dict[str, Any]:
    attributes: dict[str, Any] = {semconv.DB_QUERY_SUMMARY: summary, semconv.QUERY_FINGERPRINT: fingerprint}
    if relationship:
        attributes[semconv.ORM_RELATIONSHIP] = relationship
    return attributes | ({semconv.N_PLUS_ONE: True} if n_plus_one else {})


BOOKS = query("SELECT books", FINGERPRINT, "Author.books")
MARKED = query("SELECT books", FINGERPRINT, "Author.books", n_plus_one=True)
AUTHORS = query("SELECT authors", "a" * 16)
N_PLUS_ONE = finding("n_plus_one", "Author.books", 0.025, "critical", line=41)
VISIT = Stop("authors", "/authors", ("n_plus_one",), "/authors/fixed")
TWIN = Stop("authors (fixed)", "/authors/fixed")


@pytest.fixture
def telemetry() -> Telemetry:
    """An N+1 beside its fixed twin, and two more routes with a slow and a repeated query."""
    telemetry = Telemetry()
    telemetry.request(VISIT, [AUTHORS, BOOKS, *[MARKED] * 5], N_PLUS_ONE)
    telemetry.request(TWIN, [AUTHORS, query("SELECT books", "b" * 16)])
    telemetry.request(
        Stop("slow", "/slow"), [AUTHORS], finding("slow_query", f"{'a' * 16}@shop/views.py:7", 0.2, line=7)
    )
    telemetry.request(Stop("again", "/again"), [], finding("query_volume", "/again", 0.0, runs=21))
    return telemetry


def text_of(report: Report, width: int = 100, encoding: str = "utf-8") -> str:
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    Renderer(Console(file=output, width=width, highlight=False, emoji=False, markup=False)).print(report)
    output.seek(0)
    return output.read()


def test_findings_are_ranked_by_wasted_time(telemetry: Telemetry) -> None:
    """The finding that wasted the most stands first, with the route of its request's span and its trace."""
    found = [(finding.kind, finding.route, finding.trace_id[-1]) for finding in telemetry.report().findings]
    assert found == [
        ("slow_query", "GET /slow", "3"),
        ("n_plus_one", "GET /authors", "1"),
        ("query_volume", "GET /again", "4"),
    ]


def test_a_finding_of_several_requests_is_one_row(telemetry: Telemetry) -> None:
    """Findings of equal id are merged: runs and waste are sums, the worst request gives the rest."""
    worst = telemetry.request(VISIT, [BOOKS], finding("n_plus_one", "Author.books", 0.5, runs=100))
    (merged,) = [finding for finding in telemetry.report().findings if finding.kind == "n_plus_one"]
    assert (merged.requests, merged.runs, merged.wasted) == (2, 106, 0.525)
    assert merged.severity == "critical"
    assert worst != merged.trace_id, "the critical one is the worse one"


def test_log_records_of_others_are_no_findings(telemetry: Telemetry) -> None:
    """The application's own log records, and our own without a finding id, do not appear."""
    telemetry.logs += [LogRecord("", 0, "GET / 200"), LogRecord("querywatch.n_plus_one", 0, "no attributes")]
    assert len(telemetry.report().findings) == 3


def test_requests_and_traces_belong_together(telemetry: Telemetry) -> None:
    """Each visit has the span that began during it, whatever the order of arrival, with its queries and findings."""
    telemetry.spans.reverse()
    requests = telemetry.report().requests
    assert [request.queries for request in requests] == [7, 2, 1, 0]
    assert [[finding.kind for finding in request.findings] for request in requests] == [
        ["n_plus_one"],
        [],
        ["slow_query"],
        ["query_volume"],
    ]


def test_complete_waits_for_the_last_span_and_log_record(telemetry: Telemetry) -> None:
    """Telemetry is complete when every visit's request span is there and each finding event has its log record."""
    assert complete(telemetry.answers, telemetry.spans, telemetry.logs)
    assert not complete(telemetry.answers, telemetry.spans[:-1], telemetry.logs)
    assert not complete(telemetry.answers, telemetry.spans, telemetry.logs[:-1])


def test_repeated_queries_fold_into_one_marked_row(telemetry: Telemetry) -> None:
    """Runs of one relationship under one parent are one row with their number and sum, marked as N+1."""
    rows = waterfall.rows(telemetry.report().requests[0].trace)
    assert [(row.depth, len(row.spans), row.name, row.mark) for row in rows] == [
        (0, 1, "GET /authors", ""),
        (1, 1, "SELECT authors", ""),
        (1, 6, "SELECT books", "N+1"),
    ]
    assert rows[2].seconds == pytest.approx(0.030)


def test_queries_of_different_parents_do_not_fold() -> None:
    """Equal queries under two parents stay apart; a span that has children of its own is never folded."""
    parents = [Span("t", f"p{number}", "work", number, number + 9) for number in (0, 10)]
    children = [
        Span("t", f"c{span.span_id}", "q", span.start, span.end, span.span_id, attributes=BOOKS) for span in parents
    ]
    rows = waterfall.rows([*parents, *children])
    assert [(row.depth, len(row.spans), row.name) for row in rows] == [
        (0, 1, "work"),
        (1, 1, "SELECT books"),
        (0, 1, "work"),
        (1, 1, "SELECT books"),
    ]


@pytest.mark.parametrize(
    ("spans", "bar"),
    [
        ([(0, 100)], "##########"),
        ([(0, 1), (50, 51), (99, 100)], "#    #   #"),
        ([(100, 100)], "         #"),
        ([(20, 40)], "  ##      "),
    ],
)
def test_bars_lie_on_the_time_axis(spans: list[tuple[int, int]], bar: str) -> None:
    """Each run fills the cells of its time, at least one, and none outside the axis."""
    row = waterfall.Row(tuple(Span("t", str(begin), "q", begin, end) for begin, end in spans), 0)
    assert row.bar(0, 100, 10, "#") == bar


@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_text_shows_everything_at_every_width(telemetry: Telemetry, width: int) -> None:
    """From 80 to 200 columns nothing sticks out, and place, key, fix and the folded row are there uncut."""
    text = text_of(telemetry.report(), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    words = " ".join(text.split())
    for fact in (
        f"1 warning slow_query 6 200.0 SELECT authors {'a' * 16}",
        f"GET /slow shop/a_rather_long_folder_name/views.py:7 → {ADVICE}",
        "2 critical n_plus_one 6 25.0 Author.books",
        f"GET /authors shop/a_rather_long_folder_name/views.py:41 → {ADVICE}",
        "3 warning query_volume 21 - GET /again",
    ):
        assert fact in words


def test_text_shows_the_worst_trace_and_the_worst_n_plus_one(telemetry: Telemetry) -> None:
    """The trace whose findings wasted the most is drawn; where it has no N+1, the worst one that has follows."""
    headings = [line for line in text_of(telemetry.report()).splitlines() if line.startswith("The ")]
    assert headings == ["The worst trace: GET /slow", "The worst N+1: GET /authors"]
    telemetry.logs = telemetry.logs[:1]
    headings = [line for line in text_of(telemetry.report()).splitlines() if line.startswith("The ")]
    assert headings == ["The worst trace: GET /authors"]


def test_text_folds_and_marks_the_n_plus_one(telemetry: Telemetry) -> None:
    """The waterfall has the repeated queries in one marked row, with place and fix beneath."""
    text = text_of(telemetry.report()).partition("The worst N+1")[2]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    (folded,) = [line for line in lines if line.startswith("N+1")]
    assert folded.startswith("N+1 6 \N{MULTIPLICATION SIGN} SELECT books Author.books 30.0 █")
    assert "GET /authors shop/a_rather_long_folder_name/views.py:41" in lines[lines.index(folded) :]


def test_text_compares_the_fixed_twins(telemetry: Telemetry) -> None:
    """Each visited pair shows its queries and times; a twin that has findings itself is called out."""
    clean = text_of(telemetry.report())
    assert "Fixed twins: 1 of 1 without findings, 5 queries" in clean
    assert "GET /authors 7 → 2 100.0 → 100.0 clean" in " ".join(clean.split())
    twin = next(span for span in telemetry.spans if span.name == "GET /authors/fixed")
    telemetry.logs.append(log(finding("slow_query", "x", 0.1), twin.trace_id, twin.span_id))
    assert "Fixed twins: 0 of 1" in text_of(telemetry.report())


def test_text_is_plain_where_the_output_is_no_terminal(telemetry: Telemetry) -> None:
    """Piped text has no colours and no blanks at the ends of lines; an output that knows ASCII only gets ASCII."""
    text = text_of(telemetry.report())
    assert "\x1b" not in text
    assert " \n" not in text
    assert text_of(telemetry.report(), encoding="ascii").isascii()


def test_a_walk_without_findings_is_reported() -> None:
    """No findings, no worst trace: the report says so instead of failing."""
    telemetry = Telemetry()
    telemetry.request(TWIN, [AUTHORS])
    text = text_of(telemetry.report())
    assert "0 findings in 1 requests with 1 queries" in text
    assert "worst trace" not in text


def test_json_has_every_attribute_of_the_contract(telemetry: Telemetry) -> None:
    """Findings carry their attributes by name with route and trace; visits carry status, queries, duration, kinds."""
    outcome = Outcome(telemetry.report(), settings.Settings(slow_query_threshold=0.1), {"spans": 1})
    data = json.loads(json.dumps(as_json(outcome)))
    found = data["findings"][1]
    assert {
        "kind": "n_plus_one",
        "route": "GET /authors",
        "trace_id": f"{1:032x}",
        "requests": 1,
    }.items() <= found.items()
    assert N_PLUS_ONE.attributes.items() <= found.items()
    visit = data["visits"][0]
    assert (visit["path"], visit["status"], visit["queries"], visit["duration"]) == ("/authors", 200, 7, 0.1)
    assert (visit["findings"], visit["expects"], visit["twin"]) == (["n_plus_one"], ["n_plus_one"], "/authors/fixed")
    assert data["thresholds"]["slow_query_threshold"] == 0.1
