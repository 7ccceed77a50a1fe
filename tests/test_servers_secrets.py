"""Values of parameters never leave the process through QueryWatch: what the sink received is searched, byte by byte.

Plain OpenTelemetry sends some by itself, and QueryWatch cannot take them back:
- the target of a request (`url.path`, `url.query`), the client's own text;
- an exception that leaves a view: its message and traceback (`exception.*`, and the status of the request span).
  SQLAlchemy's messages end with the statement's parameters, unless `create_engine(hide_parameters=True)`;
- PostgreSQL's and MariaDB's own messages, which quote the value that breaks a constraint, also where the application
  catches the exception: the status of contrib's database span has them. No setting of SQLAlchemy hides those.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import servers
from e2e import models
from e2e.program import Program, Story, environment, free_port, script, wrapper
from querywatch.demo.receiver import Receiver

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-4711"
HEADER = {"X-Value": SECRET}
PATHS = ("/secret", "/secret/text", "/secret/literal", "/secret/driver", "/secret/caught", "/secret/uncaught")


class Recorder:
    """Keeps the bodies of all exports."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []

    def send(self, path: str, body: bytes) -> None:
        self.bodies.append((path, body))


@pytest.fixture(scope="module", params=["sqlite", "sqlite, hidden", "postgresql", "postgresql, hidden"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("secrets")
    database, _, hidden = request.param.partition(", ")
    url = f"sqlite:///{directory}/shop.db"
    if database == "postgresql":
        url = servers.with_driver(request.getfixturevalue("postgresql_server").new_database(), "psycopg")
    models.fill(url)
    port = free_port()
    command = [*wrapper(), script("flask"), "--app", "e2e.shop", "run", "--port", str(port)]
    recorder = Recorder()
    with Receiver(relay=recorder) as receiver:
        story = Story(receiver, name=request.param)
        # Every query is slow and every request heavy: all kinds of finding are sent.
        low = {"QUERYWATCH_SLOW_QUERY_THRESHOLD": "0.0000001", "QUERYWATCH_SLOW_REQUEST_THRESHOLD": "0.0000001"}
        low["QUERYWATCH_MAX_QUERIES_PER_REQUEST"] = "1"
        variables = environment(receiver.endpoint, DATABASE_URL=url, HIDE_PARAMETERS=hidden, **low)
        with Program(command, variables, directory / "output", port) as program:
            for path in PATHS:
                story.answers[path] = program.get(path, headers=HEADER)
            story.status = program.stop()
        story.bodies = recorder.bodies
    return story


def texts(value: Any) -> Iterator[str]:
    """All texts in an attribute's value."""
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


def carriers(story: Story) -> set[str]:
    """Where the secret stands in what was received: span name, attribute or event, log record, metric."""
    found: list[tuple[str, Any]] = []
    for span in story.receiver.spans:
        found += [("span name", span.name), *span.attributes.items()]
        found += [(f"{event.name} {key}", text) for event in span.events for key, text in event.attributes.items()]
    for log in story.receiver.logs:
        found += [(f"log {log.event_name}", log.body), *((f"log {k}", v) for k, v in log.attributes.items())]
    for point in story.receiver.metrics:
        found += [(f"metric {point.name}", list(point.attributes.values()))]
    return {place for place, value in found if any(SECRET in text for text in texts(value))}


def test_every_kind_of_finding_was_sent(story: Story) -> None:
    """The requests make findings of all kinds, so that there was something to leak."""
    kinds = {log.event_name for log in story.receiver.logs if log.event_name.startswith("querywatch.")}
    assert kinds == {
        *("querywatch.slow_query", "querywatch.n_plus_one", "querywatch.redundant_query"),
        *("querywatch.query_volume", "querywatch.slow_request"),
    }
    assert [story.answers[path].status for path in PATHS] == [200, 200, 200, 200, 409, 500]


def test_querywatch_sends_no_value(story: Story) -> None:
    """No attribute, event, log record or metric of ours, and no statement text that it sanitises, has the value."""
    ours = {
        place for place in carriers(story) if "querywatch" in place or place.startswith(("metric", "db.query", "code."))
    }
    assert ours == set()


def statuses(story: Story) -> set[str]:
    """The route of the request, or the summary of the query, of the spans whose status has the secret."""
    exports = [ExportTraceServiceRequest.FromString(body) for path, body in story.bodies if path == "/v1/traces"]
    scopes = [scope for export in exports for resource in export.resource_spans for scope in resource.scope_spans]
    leaking = [span for scope in scopes for span in scope.spans if SECRET in span.status.message]
    names = [{pair.key: pair.value.string_value for pair in span.attributes} for span in leaking]
    return {name.get("http.route") or name["db.query.summary"] for name in names}


def test_what_opentelemetry_sends_itself(story: Story) -> None:
    """Messages of exceptions: SQLAlchemy ends them with the parameters if it may, PostgreSQL quotes the value."""
    of_the_view = {"exception exception.message", "exception exception.stacktrace"}
    assert carriers(story) == (set() if story.name == "sqlite, hidden" else of_the_view)
    expected = {"sqlite": {"/secret/uncaught"}, "sqlite, hidden": set()}
    assert statuses(story) == expected.get(story.name, {"/secret/uncaught", "INSERT authors SELECT"})


def test_with_hidden_parameters_nothing_is_sent(story: Story) -> None:
    """Not one byte of it in any export, once SQLAlchemy hides parameters and the database does not tell them either."""
    exports = {path for path, body in story.bodies if SECRET.encode() in body}
    assert exports == (set() if story.name == "sqlite, hidden" else {"/v1/traces"})
