"""Zero code: an unchanged application under `opentelemetry-instrument` in real servers, seen through OTLP."""

import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from e2e import models
from e2e.program import TESTS, Program, Story, environment, free_port, last_points, script, wrapper
from querywatch.demo.receiver import Receiver
from querywatch.demo.telemetry import Attributes

pytestmark = pytest.mark.slow

GUNICORN = ("e2e.shop:app", "--workers", "2", "--no-control-socket", "--bind")
SERVERS: dict[str, Callable[[int], list[str]]] = {
    "flask run": lambda port: [script("flask"), "--app", "e2e.shop", "run", "--port", str(port)],
    "python app.py": lambda port: [sys.executable, str(TESTS / "e2e" / "shop.py"), str(port)],
    "waitress": lambda port: [script("waitress-serve"), "--listen", f"127.0.0.1:{port}", "e2e.shop:app"],
    "gunicorn sync": lambda port: [script("gunicorn"), *GUNICORN, f"127.0.0.1:{port}"],
    "gunicorn gthread": lambda port: [script("gunicorn"), *GUNICORN, f"127.0.0.1:{port}", "--threads", "2"],
    "gunicorn preload": lambda port: [script("gunicorn"), *GUNICORN, f"127.0.0.1:{port}", "--preload"],
}
#: gunicorn handles SIGTERM itself and ends in order; the others die of it.
STATUS = {name: 0 if name.startswith("gunicorn") else -signal.SIGTERM for name in SERVERS}


@pytest.fixture(scope="module", params=SERVERS)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One N+1 and its fixed twin, then SIGTERM right after the last answer: no exporter's timer has run until then."""
    directory = tmp_path_factory.mktemp("wrapped")
    url = f"sqlite:///{directory}/shop.db"
    models.fill(url)
    port = free_port()
    with Receiver() as receiver:
        told = Story(receiver)
        variables = environment(receiver.endpoint, DATABASE_URL=url, OTEL_BSP_SCHEDULE_DELAY="60000")
        command = [*wrapper(), *SERVERS[request.param](port)]
        with Program(command, variables, directory / "output", port) as program:
            told.answers["fixed"] = program.get("/authors/fixed")
            told.answers["n+1"] = program.get("/authors")
            told.status = program.stop()
            told.output = program.output
        told.name = request.param
        yield told


def finding_of(story: Story) -> Attributes:
    [event] = [event for event in story.told("n+1").request.events if event.name == "querywatch.n_plus_one"]
    return event.attributes


def test_answers_are_the_applications(story: Story) -> None:
    """The wrapped application answers what it answers alone."""
    assert [answer.status for answer in story.answers.values()] == [200, 200]
    assert story.answers["n+1"].body == story.answers["fixed"].body


def test_the_server_ends_as_it_would_alone(story: Story) -> None:
    """SIGTERM ends the process with the status that it has without telemetry, and nothing is complained about."""
    assert story.status == STATUS[story.name]
    assert "Traceback" not in story.output
    assert "QueryWatch" not in story.output


def test_the_finding_is_an_event_of_the_request_span(story: Story) -> None:
    """The span event has the key, the runs, the line and the fix."""
    finding = finding_of(story)
    assert finding["querywatch.finding.key"] == "Author.books"
    assert finding["querywatch.finding.count"] == finding["querywatch.finding.distinct"] == models.AUTHORS
    assert finding["code.file.path"] == str(TESTS / "e2e" / "shop.py")
    assert finding["code.function.name"].rpartition(".")[2] in ("titles", "<genexpr>")
    assert "selectinload(Author.books)" in finding["querywatch.advice"]


def test_the_log_record_is_the_same_finding(story: Story) -> None:
    """One log record, in the request's trace, with the attributes of the span event."""
    [log] = story.told("n+1").logs
    assert log.event_name == "querywatch.n_plus_one"
    assert log.span_id == story.told("n+1").request.span_id
    assert finding_of(story).items() <= log.attributes.items()


def test_the_counter_counts_it_and_leads_to_the_trace(story: Story) -> None:
    """One increment, with route and severity, whose exemplar is the request's span."""
    [point] = last_points(story.receiver, "querywatch.findings")
    assert point.value == 1
    assert point.attributes == {
        "querywatch.finding.kind": "n_plus_one",
        "querywatch.severity": "warning",
        "http.route": "/authors",
    }
    request = story.told("n+1").request
    assert [(e.trace_id, e.span_id) for e in point.exemplars] == [(request.trace_id, request.span_id)]


def test_the_request_span_has_the_totals(story: Story) -> None:
    """Count, time, kinds, severity and number of N+1 groups stand on the request span."""
    attributes = story.told("n+1").request.attributes
    assert attributes["querywatch.query.count"] == models.AUTHORS + 1
    assert attributes["querywatch.query.duration"] > 0
    assert attributes["querywatch.findings"] == ["n_plus_one"]
    assert attributes["querywatch.severity"] == "warning"
    assert attributes["querywatch.n_plus_one.count"] == 1


def test_the_database_spans_are_tagged(story: Story) -> None:
    """Every database span has fingerprint and summary; the lazy loads name relationship, line and, from 5 on, N+1."""
    parents, *loads = sorted(story.told("n+1").queries, key=lambda span: span.start)
    assert (parents.attributes["db.query.summary"], len(loads)) == ("SELECT authors", models.AUTHORS)
    assert "querywatch.orm.relationship" not in parents.attributes
    assert {span.attributes["querywatch.orm.relationship"] for span in loads} == {"Author.books"}
    assert {span.attributes["db.query.summary"] for span in loads} == {"SELECT books"}
    assert len({span.attributes["querywatch.query.fingerprint"] for span in loads}) == 1
    assert ["code.line.number" in span.attributes for span in loads] == [False] + [True] * 7
    assert [span.attributes.get("querywatch.n_plus_one") for span in loads] == [None] * 4 + [True] * 4
    assert {span.parent_id for span in loads} == {story.told("n+1").request.span_id}


def test_the_fixed_twin_has_no_finding(story: Story) -> None:
    """Two queries, no finding, no severity: on the span as in the log."""
    fixed = story.told("fixed")
    assert fixed.request.attributes["querywatch.query.count"] == 2
    assert fixed.request.attributes["querywatch.n_plus_one.count"] == 0
    assert not {"querywatch.findings", "querywatch.severity"} & fixed.request.attributes.keys()
    assert (fixed.request.events, fixed.logs) == ((), [])


def test_the_queries_of_both_requests_are_counted(story: Story) -> None:
    """The histogram has one value for each request, under its route."""
    points = last_points(story.receiver, "querywatch.request.queries")
    counted = {point.attributes["http.route"]: (point.count, point.sum) for point in points}
    assert counted == {"/authors": (1, models.AUTHORS + 1), "/authors/fixed": (1, 2)}
