"""Detection needs a request, not Flask: FastAPI on an asynchronous engine, and Flask mounted in it, under uvicorn."""

import pytest

import servers
from e2e import models
from e2e.program import Program, Story, environment, free_port, last_points, script, wrapper
from querywatch.demo.receiver import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.sqlalchemy_matrix]

REQUESTS = {"authors": "/authors", "lazy": "/lazy/x", "stream": "/stream/x", "mounted": "/old/shelf/7"}
ROUTES = {"authors": "/authors", "lazy": "/lazy/{kind}", "stream": "/stream/{kind}", "mounted": "/shelf/<int:number>"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Each request sampled and dropped."""
    directory = tmp_path_factory.mktemp("asgi")
    if request.param == "sqlite":
        blocking = f"sqlite:///{directory}/shop.db"
        asynchronous = f"sqlite+aiosqlite:///{directory}/shop.db"
    else:
        url = request.getfixturevalue("postgresql_server").new_database()
        blocking, asynchronous = servers.with_driver(url, "psycopg"), servers.with_driver(url, "asyncpg")
    models.fill(blocking)
    port = free_port()
    command = [*wrapper(), script("uvicorn"), "e2e.aio:app", "--port", str(port)]
    with Receiver() as receiver:
        story = Story(receiver)
        variables = environment(receiver.endpoint, DATABASE_URL=blocking, ASYNC_DATABASE_URL=asynchronous)
        with Program(command, variables, directory / "output", port) as program:
            for name, path in REQUESTS.items():
                story.answers[name] = program.get(path)
                story.answers[f"{name}, dropped"] = program.get(path, sampled=False)
            story.status = program.stop()
            story.output = program.output
    return story


@pytest.mark.parametrize("name", REQUESTS)
def test_the_finding_of_a_request(story: Story, name: str) -> None:
    """One N+1 with its line, as an event of the request's span and as log record, under the most specific route."""
    got = story.told(name)
    assert story.answers[name].status == 200
    assert got.kinds == ["n_plus_one"]
    assert got.logs[0].attributes["http.route"] == ROUTES[name]
    assert got.logs[0].attributes["code.file.path"].endswith("e2e/aio.py")
    assert [event.name for event in got.request.events] == ["querywatch.n_plus_one"]
    assert got.request.attributes["querywatch.findings"] == ["n_plus_one"]
    assert {span.attributes["querywatch.query.fingerprint"] for span in got.queries}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_dropped_request_still_counts(story: Story, name: str) -> None:
    """No span, but the log record, in the request's trace and under its route."""
    got = story.told(f"{name}, dropped")
    assert got.spans == []
    assert [log.attributes["http.route"] for log in got.logs] == [ROUTES[name]]


def test_the_counter_has_both(story: Story) -> None:
    points = last_points(story.receiver, "querywatch.findings")
    assert {point.attributes["http.route"]: point.value for point in points} == dict.fromkeys(ROUTES.values(), 2)


def test_no_callback_fails(story: Story) -> None:
    assert "QueryWatch: querywatch" not in story.output
    assert "Traceback" not in story.output
