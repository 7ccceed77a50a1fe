"""What belongs to a request, on a real server: hooks, streams, failures, requests side by side, dropped ones."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, send_file
from flask import request as flask_request
from sqlalchemy import NullPool, create_engine
from sqlalchemy.orm import Session
from werkzeug.test import create_environ
from werkzeug.wsgi import FileWrapper

from e2e import models
from e2e.program import Program, Story, environment, free_port, last_points, script, told, wrapper
from querywatch import Kind, testing
from querywatch.demo.receiver import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.sqlalchemy_matrix]

#: Every request of the story by the name that the tests use.
REQUESTS: dict[str, dict[str, Any]] = {
    "preprocessor": {"path": "/early/3/"},
    "hooks": {"path": "/around/"},
    "stream": {"path": "/stream"},
    "stream in context": {"path": "/stream/context"},
    "failure": {"path": "/fails"},
    "head": {"path": "/authors", "method": "HEAD"},
    "not modified": {"path": "/not-modified", "headers": {"If-None-Match": '"same"'}},
    "file": {"path": "/file"},
    "own engine": {"path": "/engine/1"},
    "own engine, never disposed": {"path": "/engine/0"},
    "dropped": {"path": "/authors", "sampled": False},
    "dropped stream": {"path": "/stream", "sampled": False},
    "dropped failure": {"path": "/fails", "sampled": False},
}


def live(directory: Path, receiver: Receiver, command: list[str], requests: dict[str, dict[str, Any]]) -> Story:
    """Send the requests to a server, two more at once, and end it."""
    url = f"sqlite:///{directory}/shop.db"
    models.fill(url)
    port = int(command[-1])
    story = Story(receiver)
    with Program(command, environment(receiver.endpoint, DATABASE_URL=url), directory / "output", port) as program:
        for name, request in requests.items():
            story.answers[name] = program.get(**request)
        with ThreadPoolExecutor() as pool:
            both = pool.map(program.get, ["/together/one", "/together/two"])
            story.answers |= zip(["one", "two"], both, strict=True)
        story.status = program.stop(signal.SIGTERM)
        story.output = program.output
    return story


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("requests")
    command = [*wrapper(), script("flask"), "--app", "e2e.shop", "run", "--port", str(free_port())]
    with Receiver() as receiver:
        yield live(directory, receiver, command, REQUESTS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The same without the wrapper."""
    directory = tmp_path_factory.mktemp("plain")
    command = [script("flask"), "--app", "e2e.shop", "run", "--port", str(free_port())]
    with Receiver() as receiver:
        yield live(directory, receiver, command, REQUESTS)


def test_nothing_of_ours_fails(story: Story) -> None:
    """No callback of QueryWatch raised in any of the requests."""
    assert "QueryWatch: " not in story.output


@pytest.mark.parametrize("name", [*REQUESTS, "one", "two"])
def test_the_client_gets_the_same(story: Story, plain: Story, name: str) -> None:
    """Status, body and headers are those of the application without the wrapper."""
    got, expected = story.answers[name], plain.answers[name]
    assert (got.status, got.body) == (expected.status, expected.body)
    dated = {"Date", "Last-Modified"}
    assert {k: v for k, v in got.headers.items() if k not in dated} == {
        k: v for k, v in expected.headers.items() if k not in dated
    }


def frames(output: str) -> list[str]:
    """The application's own frames in the tracebacks that a server printed."""
    return re.findall(r'File ".*e2e/shop.py", line \d+, in \w+|^\w+Error: .*', output, re.MULTILINE)


def test_the_applications_exceptions_are_its_own(story: Story, plain: Story) -> None:
    """The server prints the traceback of a failing view through the same lines of the application, with its message."""
    assert frames(story.output) == frames(plain.output)
    assert frames(story.output).count("RuntimeError: the application's own error") == 2


@pytest.mark.parametrize(
    ("name", "route", "count"),
    [
        ("preprocessor", "/early/<int:number>/", models.AUTHORS),
        ("failure", "/fails", models.AUTHORS + 1),
        ("head", "/authors", models.AUTHORS + 1),
        ("not modified", "/not-modified", models.AUTHORS + 1),
        ("file", "/file", models.AUTHORS + 1),
        ("own engine", "/engine/<int:dispose>", models.AUTHORS + 1),
        ("own engine, never disposed", "/engine/<int:dispose>", models.AUTHORS + 1),
        ("one", "/together/<name>", models.AUTHORS),
        ("two", "/together/<name>", models.AUTHORS),
    ],
)
def test_the_request_has_all_its_queries(story: Story, name: str, route: str, count: int) -> None:
    """The request's span counts its queries, and its one N+1 is an event and a log record under its route."""
    got = story.told(name)
    assert got.request.attributes["querywatch.query.count"] == count
    assert [event.name for event in got.request.events if event.name != "exception"] == ["querywatch.n_plus_one"]
    assert got.kinds == ["n_plus_one"]
    assert got.logs[0].attributes["http.route"] == route
    assert got.logs[0].span_id == got.request.span_id


def test_queries_before_the_request_span_are_in_its_findings(story: Story) -> None:
    """What url_value_preprocessor asks runs before Flask's span starts; its line is in the finding."""
    [log] = story.told("preprocessor").logs
    assert log.attributes["code.function.name"] in ("e2e.shop.names", "e2e.shop.names.<locals>.<listcomp>")
    assert log.attributes["querywatch.finding.count"] == models.AUTHORS


def test_all_hooks_are_in_the_request(story: Story) -> None:
    """before_request, view, after_request and teardown: the N+1 of the teardown is found under the route."""
    got = story.told("hooks")
    assert got.kinds == ["n_plus_one"]
    assert got.logs[0].attributes["http.route"] == "/around/"


@pytest.mark.parametrize("name", ["stream", "stream in context"])
def test_a_streaming_body_is_in_the_request(story: Story, name: str) -> None:
    """The N+1 of a body is found, logged in the request's trace, and its database spans are in that trace."""
    got = story.told(name)
    assert got.kinds == ["n_plus_one"]
    assert got.logs[0].attributes["querywatch.finding.count"] == models.AUTHORS
    assert got.logs[0].span_id == got.request.span_id
    assert len(got.queries) == models.AUTHORS
    assert {span.parent_id for span in got.queries} == {got.request.span_id}


@pytest.mark.parametrize("name", ["dropped", "dropped stream", "dropped failure"])
def test_a_dropped_request_still_counts(story: Story, name: str) -> None:
    """A request that the sampler dropped sends no span, but its log record."""
    got = story.told(name)
    assert got.spans == []
    assert got.kinds == ["n_plus_one"]


def test_the_counter_has_sampled_and_dropped_requests(story: Story) -> None:
    """Every finding is counted once under its route, whether a span was exported or not."""
    counted = {
        point.attributes["http.route"]: point.value for point in last_points(story.receiver, "querywatch.findings")
    }
    assert counted == {
        "/early/<int:number>/": 1,
        "/around/": 1,
        "/stream": 2,
        "/stream/context": 1,
        "/fails": 2,
        "/authors": 2,
        "/not-modified": 1,
        "/file": 1,
        "/engine/<int:dispose>": 2,
        "/together/<name>": 2,
    }


def test_requests_at_once_do_not_mix(story: Story) -> None:
    """Two requests whose queries alternate have their own N+1 each, in their own trace."""
    for name in ("one", "two"):
        got = told(story.receiver, story.answers[name].trace_id)
        assert [log.attributes["querywatch.finding.count"] for log in got.logs] == [models.AUTHORS]


def shop_in_this_process(url: str) -> Flask:
    app, engine = Flask("here"), create_engine(url, poolclass=NullPool)

    @app.get("/")
    def names() -> Response:
        with Session(engine) as session:
            for number in range(1, models.AUTHORS + 1):
                session.get_one(models.Author, number)
                session.expunge_all()
        return send_file(BytesIO(b"content"), "text/plain")

    return app


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    url = f"sqlite:///{tmp_path}/shop.db"
    models.fill(url)
    return shop_in_this_process(url)


def test_a_test_client_is_a_request(app: Flask) -> None:
    """The application's own test client works as always, its context kept open or not; each request has its finding."""
    with testing.watch() as kept, app.test_client() as client:
        assert client.get("/").data == b"content"
        assert flask_request.path == "/"
    with testing.watch() as gone:
        assert app.test_client().get("/").data == b"content"
    assert [[finding.kind for finding in watched.findings] for watched in (kept, gone)] == [[Kind.N_PLUS_ONE]] * 2


def test_a_file_is_the_servers_to_send(app: Flask) -> None:
    """The server gets its own file wrapper back, untouched, so that it can hand the file to the kernel."""
    environ = create_environ("/")
    environ["wsgi.file_wrapper"] = FileWrapper
    with testing.watch() as watched:
        body = app(environ, lambda *_: lambda _: None)
        assert type(body) is FileWrapper
        body.close()
    assert watched.queries == models.AUTHORS
