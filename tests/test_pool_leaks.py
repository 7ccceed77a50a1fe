"""Leaks and full pools: who is reported, when, with which line, trace and route, and who is not."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from sqlalchemy import Engine, NullPool, QueuePool, SingletonThreadPool, StaticPool, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pools import POOL, Observed, observed, run_async
from querywatch.settings import Settings

pytestmark = pytest.mark.sqlalchemy_matrix

LEAK = 60.0
"""The leak threshold's default, in seconds."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    with observed(monkeypatch) as seen:
        yield seen


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(
        database_url, poolclass=QueuePool, pool_size=2, max_overflow=3, pool_timeout=0.05, pool_logging_name="shop"
    )
    yield engine
    engine.dispose()


class Shop:
    """A Flask application whose views keep what they take."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.kept: list[Any] = []
        self.app = flask.Flask("shop")
        FlaskInstrumentor.instrument_app(self.app)
        self.client = self.app.test_client()

    def view(self, path: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        return self.app.get(path)

    def get(self, path: str) -> Any:
        """Ask as a server does: it closes the body, with which the request ends."""
        return self.client.get(path, buffered=True)


@pytest.fixture
def shop(seen: Observed, engine: Engine) -> Iterator[Shop]:
    shop = Shop(engine)

    @shop.view("/leak")
    def leak() -> str:
        shop.kept.append(engine.connect())  # THE LINE
        return format(trace.get_current_span().get_span_context().trace_id, "032x")

    @shop.view("/fine")
    def fine() -> str:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return "fine"

    yield shop
    for connection in shop.kept:
        connection.close()


def line() -> int:
    """Where the leaking view takes its connection."""
    return next(n for n, code in enumerate(Path(__file__).read_text().splitlines(), 1) if code.endswith("# THE LINE"))


def look(seen: Observed, seconds: float) -> None:
    """Let the watch look at the pools as if it were so many seconds later."""
    seen.watch.look(time.monotonic() + seconds)


def test_a_leak_is_reported_when_its_request_ends(seen: Observed, shop: Shop) -> None:
    """At once, once, with line, function, route, pool and the trace of the request."""
    trace_id = shop.get("/leak").text
    [leak] = seen.logs("connection_leak")
    attributes = dict(leak.attributes or {})
    assert format(leak.trace_id or 0, "032x") == trace_id
    assert attributes["code.file.path"] == __file__
    assert attributes["code.line.number"] == line()
    assert str(attributes["code.function.name"]).endswith("leak")
    assert (attributes["http.route"], attributes[POOL], attributes["querywatch.severity"]) == (
        "/leak",
        "shop",
        "warning",
    )
    assert attributes["querywatch.finding.key"] == f"shop@test_pool_leaks.py:{line()}"
    assert leak.severity_text == "WARN"


def test_it_is_counted_and_told_once(seen: Observed, shop: Shop) -> None:
    """One increment of the counter for each leak, though it is held for long as well; the gauge has those still out."""
    shop.get("/leak")
    shop.get("/leak")
    look(seen, 2 * LEAK)
    assert len(seen.logs("connection_leak")) == 2
    [point] = seen.points("querywatch.findings")
    assert point.value == 2
    assert point.attributes["querywatch.finding.kind"] == "connection_leak"
    assert point.attributes["http.route"] == "/leak"
    assert seen.value("querywatch.pool.leaks") == 2
    assert seen.value("querywatch.pool.health") == pytest.approx(1 - 2 / 5)


def test_its_return_is_told_under_the_same_id(seen: Observed, shop: Shop) -> None:
    shop.get("/leak")
    assert seen.logs("connection_returned") == []
    shop.kept.pop().close()
    [leak], [returned] = seen.logs("connection_leak"), seen.logs("connection_returned")
    finding_id = "querywatch.finding.id"
    assert (returned.attributes or {})[finding_id] == (leak.attributes or {})[finding_id]
    assert returned.trace_id == leak.trace_id
    assert seen.value("querywatch.pool.leaks") == 0


def test_what_is_returned_is_no_leak(seen: Observed, shop: Shop) -> None:
    shop.get("/fine")
    look(seen, 2 * LEAK)
    assert seen.logs("connection_leak") == seen.logs("connection_returned") == []


def test_a_leak_of_a_failing_request(seen: Observed, shop: Shop) -> None:
    """The view raised after it took the connection: reported all the same."""

    @shop.view("/fails")
    def fails() -> str:
        shop.kept.append(shop.engine.connect())
        raise RuntimeError("the application's own error")

    assert shop.get("/fails").status_code == 500
    assert [dict(log.attributes or {})["http.route"] for log in seen.logs("connection_leak")] == ["/fails"]


def test_a_request_in_a_request_is_left_to_the_outer_one(seen: Observed, shop: Shop) -> None:
    """An outer view that calls another application's client still holds its own connection on purpose."""

    @shop.view("/outer")
    def outer() -> str:
        with shop.engine.connect():
            shop.app.test_client().get("/fine")
            assert seen.logs("connection_leak") == []
        return "outer"

    assert shop.get("/outer").status_code == 200
    assert seen.logs("connection_leak") == []


def test_a_session_that_is_never_removed(seen: Observed, shop: Shop) -> None:
    """A global scoped_session keeps its connection from request to request: one leak, not one for each request."""
    session = scoped_session(sessionmaker(shop.engine))

    @shop.view("/session")
    def ask() -> str:
        return str(session.scalar(text("SELECT 1")))

    assert [shop.get("/session").text for _ in range(3)] == ["1"] * 3
    assert len(seen.logs("connection_leak")) == 1
    assert seen.value("querywatch.pool.leaks") == 1
    session.remove()
    assert len(seen.logs("connection_returned")) == 1


def test_a_stream_that_is_running_is_no_leak(seen: Observed, shop: Shop) -> None:
    """The body holds a connection after the view has returned: no alarm before, during, or after its end."""

    @shop.view("/stream")
    def stream() -> flask.Response:
        def body() -> Iterator[str]:
            with Session(shop.engine) as session:
                for number in range(3):
                    yield str(session.scalar(text(f"SELECT {number}")))

        return flask.Response(body())

    response = shop.client.get("/stream", buffered=False)
    chunks = response.iter_encoded()
    assert next(iter(chunks)) == b"0"
    assert seen.states()[0] == 1
    assert seen.logs("connection_leak") == []
    response.close()
    assert seen.states()[0] == 0
    assert seen.logs("connection_leak") == []


def test_a_body_that_leaves_its_connection(seen: Observed, shop: Shop) -> None:
    """What a streaming body keeps is reported when the body has ended, and not before."""

    @shop.view("/stream")
    def stream() -> flask.Response:
        def body() -> Iterator[str]:
            shop.kept.append(shop.engine.connect())
            yield "1"
            assert seen.logs("connection_leak") == []

        return flask.Response(body())

    assert shop.get("/stream").text == "1"
    assert [dict(log.attributes or {})["http.route"] for log in seen.logs("connection_leak")] == ["/stream"]


def test_a_background_thread_may_hold_longer_than_its_request(seen: Observed, shop: Shop) -> None:
    """A thread with the request's context is no leak when the request ends, but when it is over the threshold."""
    taken, done = threading.Event(), threading.Event()

    def work() -> None:
        with shop.engine.connect():
            taken.set()
            done.wait(30)

    @shop.view("/job")
    def job() -> str:
        context = contextvars.copy_context()
        shop.kept.append(threading.Thread(target=context.run, args=(work,)))
        shop.kept[-1].start()
        taken.wait(30)
        return "started"

    shop.get("/job")
    thread = shop.kept.pop()
    look(seen, LEAK - 1)
    assert seen.logs("connection_leak") == []
    look(seen, LEAK + 1)
    assert [dict(log.attributes or {})["http.route"] for log in seen.logs("connection_leak")] == ["/job"]
    done.set()
    thread.join()
    assert len(seen.logs("connection_returned")) == 1


def test_one_that_is_held_for_too_long(seen: Observed, engine: Engine) -> None:
    """Without any request: reported over the threshold, not at it; the watch finds it by itself."""
    with engine.connect():
        [checkout] = seen.state(engine).checkouts()
        seen.watch.look(checkout.started + LEAK)
        assert seen.logs("connection_leak") == []
        seen.watch.look(checkout.started + LEAK + 0.001)
        [leak] = seen.logs("connection_leak")
    assert (leak.attributes or {})["code.file.path"] == __file__
    assert "http.route" not in (leak.attributes or {})


def test_the_watch_runs_by_itself(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    """With a threshold of 50 ms a held connection is reported without anybody's doing."""
    engine = create_engine(database_url, poolclass=QueuePool)
    with observed(monkeypatch, Settings(leak_threshold=0.05)) as seen, engine.connect():
        deadline = time.monotonic() + 20
        while not seen.logs("connection_leak"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    engine.dispose()


@pytest.mark.parametrize("poolclass", [NullPool, StaticPool, SingletonThreadPool])
def test_pools_that_nobody_waits_at_leak_nothing(seen: Observed, tmp_path: Path, poolclass: Any) -> None:
    """NullPool and its kin: neither at the request's end nor over the threshold."""
    engine = create_engine(f"sqlite:///{tmp_path}/a.db", poolclass=poolclass)
    shop = Shop(engine)

    @shop.view("/leak")
    def leak() -> str:
        shop.kept.append(engine.connect())
        return "kept"

    assert shop.get("/leak").text == "kept"
    look(seen, 2 * LEAK)
    assert seen.logs("connection_leak") == []
    shop.kept.pop().close()


def test_an_ignored_leak_is_no_finding(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """QUERYWATCH_IGNORE holds for keys of the pool as for others."""
    with observed(monkeypatch, Settings(ignore=("shop@*",))) as seen, engine.connect():
        look(seen, 2 * LEAK)
        assert seen.logs("connection_leak") == []
        assert seen.points("querywatch.findings") == []


@pytest.mark.parametrize("database_url", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True)
def test_an_asynchronous_connection_held_for_too_long(seen: Observed, database_url: str) -> None:
    """The application's line is found through SQLAlchemy's asyncio bridge."""

    async def work(engine: AsyncEngine) -> None:
        async with engine.connect():
            look(seen, 2 * LEAK)

    run_async(database_url, work)
    [leak] = seen.logs("connection_leak")
    assert (leak.attributes or {})["code.file.path"] == __file__
    assert str((leak.attributes or {})["code.function.name"]).endswith("work")


# --- full pools -------------------------------------------------------------------------------------------------------


def test_a_full_pool_names_the_routes_that_fill_it(seen: Observed, shop: Shop) -> None:
    """5 of 5: one warning is passed over for the critical finding, which names route and numbers."""
    for _ in range(4):
        shop.get("/leak")
    assert seen.logs("pool_saturation") == []
    shop.get("/leak")
    [full] = seen.logs("pool_saturation")
    attributes = dict(full.attributes or {})
    assert (attributes["querywatch.severity"], attributes[POOL]) == ("critical", "shop")
    assert attributes["querywatch.finding.key"] == "shop"
    assert attributes["querywatch.finding.count"] == 5
    assert "5 of 5 connections are in use, held by /leak (5)" in str(attributes["querywatch.advice"])


def test_a_leak_from_a_full_pool_is_critical(seen: Observed, shop: Shop) -> None:
    for _ in range(5):
        shop.get("/leak")
    severities = [(log.attributes or {})["querywatch.severity"] for log in seen.logs("connection_leak")]
    assert severities == ["warning"] * 4 + ["critical"]


def test_dancing_around_the_threshold_is_one_finding(seen: Observed, engine: Engine) -> None:
    """A pool that is full and empty in turn, hundreds of times, is one finding and one count."""
    for _ in range(100):
        connections = [engine.connect() for _ in range(5)]
        for connection in connections:
            connection.close()
    assert len(seen.logs("pool_saturation")) == 1
    [point] = seen.points("querywatch.findings")
    assert (point.value, point.attributes[POOL]) == (1, "shop")


def test_a_checkout_that_times_out_says_so(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """A time-out is a finding in the trace of the request that got nothing, even where being full is none."""
    with observed(monkeypatch, Settings(pool_warning=1.0, pool_critical=1.0)) as seen:
        shop = Shop(engine)
        shop.kept = [engine.connect() for _ in range(4)]

        @shop.view("/late")
        def late() -> str:
            with engine.connect(), pytest.raises(PoolTimeoutError):
                engine.connect()
            return format(trace.get_current_span().get_span_context().trace_id, "032x")

        trace_id = shop.get("/late").text
        [full] = seen.logs("pool_saturation")
        attributes = dict(full.attributes or {})
        assert format(full.trace_id or 0, "032x") == trace_id
        assert attributes["querywatch.severity"] == "critical"
        assert "A checkout timed out, held by no request (4), /late (1)" in str(attributes["querywatch.advice"])
        while shop.kept:
            shop.kept.pop().close()
