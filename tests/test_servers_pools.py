"""The pool from outside: every metric of the contract, and the findings, over OTLP from a real server process."""

from collections.abc import Iterator
from typing import Any

import pytest

import servers
from e2e.program import Program, Story, environment, free_port, last_points, script, wrapper
from querywatch.demo.receiver import Receiver
from querywatch.demo.telemetry import MetricPoint

pytestmark = [pytest.mark.slow, pytest.mark.sqlalchemy_matrix]

PREFIX = "db.client.connection"
POOL = f"{PREFIX}.pool.name"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Three good requests, an exhausted pool, a leak that comes back and one that does not; on gunicorn."""
    directory = tmp_path_factory.mktemp("pools")
    url = f"sqlite:///{directory}/shop.db"
    if request.param == "postgresql":
        server: servers.Server = request.getfixturevalue("postgresql_server")
        url = servers.with_driver(server.new_database(), "psycopg")
    port = free_port()
    # One thread: a request has ended, with what it left behind, before the next one begins.
    command = [*wrapper(), script("gunicorn"), "e2e.pool_shop:app", "--no-control-socket"]
    with Receiver() as receiver:
        story = Story(receiver, name=request.param)
        variables = environment(receiver.endpoint, DATABASE_URL=url)
        with Program([*command, "--bind", f"127.0.0.1:{port}"], variables, directory / "output", port) as program:
            for number in range(3):
                story.answers[f"fine {number}"] = program.get("/fine")
            for name in ("exhausted", "leak", "return"):
                story.answers[name] = program.get(f"/{name}")
            story.answers["leaked for good"] = program.get("/leak")
            story.status = program.stop()
            story.output = program.output
        yield story


def point(story: Story, name: str, **attributes: Any) -> MetricPoint:
    """The one series of a pool's metric."""
    [found] = last_points(story.receiver, name, **attributes)
    assert found.attributes[POOL] == "shop"
    return found


def test_nothing_of_ours_fails(story: Story) -> None:
    """The answers are the application's, the server ends in order, and no callback of QueryWatch raised."""
    bodies = [answer.body for answer in story.answers.values()]
    assert bodies == [b"42"] * 3 + [b"exhausted", b"left", b"returned", b"left"]
    assert story.status == 0
    assert "QueryWatch: " not in story.output  # as the guard begins its message


@pytest.mark.parametrize(
    ("name", "unit", "value"),
    [
        (f"{PREFIX}.max", "{connection}", 2),
        (f"{PREFIX}.idle.max", "{connection}", 1),
        (f"{PREFIX}.idle.min", "{connection}", 0),
        (f"{PREFIX}.pending_requests", "{request}", 0),
        (f"{PREFIX}.timeouts", "{timeout}", 1),
        ("querywatch.pool.utilization", "1", 0.5),
        ("querywatch.pool.leaks", "{connection}", 1),
    ],
)
def test_counts(story: Story, name: str, unit: str, value: float) -> None:
    """One connection is out at the end, of two that there may be; one checkout has timed out."""
    found = point(story, name)
    assert (found.unit, found.value) == (unit, value)


def test_connections_by_state(story: Story) -> None:
    name = f"{PREFIX}.count"
    points = last_points(story.receiver, name)
    assert {p.attributes[f"{PREFIX}.state"]: p.value for p in points} == {"used": 1, "idle": 0}
    assert {(p.unit, p.attributes[POOL]) for p in points} == {("{connection}", "shop")}


def test_times(story: Story) -> None:
    """3 + 2 + 1 + 1 connections were taken and one was not; all came back but the last; overflow was made anew."""
    waits, uses, creations = (point(story, f"{PREFIX}.{name}") for name in ("wait_time", "use_time", "create_time"))
    assert {found.unit for found in (waits, uses, creations)} == {"s"}
    assert (waits.count, uses.count, creations.count) == (8, 6, 2)
    assert waits.sum >= 0.1
    assert uses.sum >= 0.1


def test_health(story: Story) -> None:
    """Half of the pool is leaked: it is not well, and not dead."""
    assert 0 < (point(story, "querywatch.pool.health").value or 0) <= 0.5


def test_durations_of_queries(story: Story) -> None:
    """Four attributes name database and statement; PostgreSQL has its address as well."""
    [found] = [
        p
        for p in last_points(story.receiver, "db.client.operation.duration")
        if p.attributes["db.query.summary"] == "SELECT"
    ]
    assert (found.unit, found.count) == ("s", 3)
    assert found.attributes["db.system.name"] == story.name
    address = {"server.address", "server.port"} if story.name == "postgresql" else set()
    names = {"db.system.name", "db.namespace", "db.operation.name", "db.query.summary"}
    assert set(found.attributes) == names | address


def test_nothing_else_is_exported(story: Story) -> None:
    """No helper's instrument, and nothing of contrib's deprecated metric."""
    names = {point.name for point in story.receiver.metrics}
    assert {name for name in names if name.endswith(".late") or name.startswith("db.client.connections.")} == set()


def test_findings(story: Story) -> None:
    """Full pool and leaks are told in the traces of their requests and counted, the return under the leak's id."""
    assert story.told("exhausted").kinds == ["pool_saturation"]
    assert story.told("leaked for good").kinds == ["connection_leak"]
    assert story.told("leak").kinds == ["connection_leak", "connection_returned"]
    ids = {log.attributes["querywatch.finding.id"] for log in story.told("leak").logs}
    assert len(ids) == 1
    counted = {p.attributes["querywatch.finding.kind"]: p for p in last_points(story.receiver, "querywatch.findings")}
    assert {kind: found.value for kind, found in counted.items()} == {"connection_leak": 2, "pool_saturation": 1}
    assert {found.attributes[POOL] for found in counted.values()} == {"shop"}
    assert counted["connection_leak"].attributes["http.route"] == "/leak"


def test_the_leak_has_its_line(story: Story) -> None:
    [leak] = story.told("leaked for good").logs
    assert str(leak.attributes["code.file.path"]).endswith("e2e/pool_shop.py")
    assert leak.attributes["code.function.name"] == "e2e.pool_shop.leak"
