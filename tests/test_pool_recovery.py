"""Recovery, against a real PostgreSQL that goes away and comes back; without it, nothing is touched."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import flask
import psycopg
import pytest
from sqlalchemy import Engine, QueuePool, create_engine, text
from sqlalchemy.exc import OperationalError, ResourceClosedError, SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import Pool

import servers
from pools import Observed, observed
from querywatch.settings import Settings

pytestmark = [pytest.mark.sqlalchemy_matrix, pytest.mark.slow]

IDLE = 1.1
"""Seconds after which an idle connection is tested."""
THREADS = 4


@pytest.fixture
def recovering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    with observed(monkeypatch, Settings(pool_recovery=True)) as seen:
        yield seen


@pytest.fixture
def url(postgresql_url: str) -> str:
    return servers.with_driver(postgresql_url, "psycopg")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url, pool_size=THREADS, max_overflow=0, pool_timeout=10)
    yield engine
    engine.dispose()


def ask(engine: Engine) -> None:
    """One request: a query of its own connection."""
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 42")) == 42


def fill(engine: Engine) -> list[int]:
    """Open every connection of the pool and return their backends."""
    connections = [engine.connect() for _ in range(THREADS)]
    backends = [connection.scalar(text("SELECT pg_backend_pid()")) for connection in connections]
    for connection in connections:
        connection.close()
    return [backend for backend in backends if backend is not None]


def terminate_backends(url: str) -> None:
    """End every connection to the database but the one that does it."""
    with psycopg.connect(url.replace("+psycopg", "")) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def failures(engine: Engine, requests: int) -> int:
    """How many of so many requests, one after the other, fail."""
    failed = 0
    for _ in range(requests):
        try:
            ask(engine)
        except OperationalError:
            failed += 1
    return failed


def acts(seen: Observed) -> dict[str, int]:
    return {str(p.attributes["querywatch.pool.recovery"]): p.value for p in seen.points("querywatch.pool.recoveries")}


# --- idle connections -------------------------------------------------------------------------------------------------


def test_without_recovery_a_request_fails(monkeypatch: pytest.MonkeyPatch, engine: Engine, url: str) -> None:
    """Plain SQLAlchemy: the first request after the backends are gone meets a dead connection."""
    with observed(monkeypatch) as seen:
        fill(engine)
        terminate_backends(url)
        time.sleep(IDLE)
        assert failures(engine, 2 * THREADS) == 1
        assert acts(seen) == {}


def test_with_recovery_none_does(
    recovering: Observed, engine: Engine, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Dead connections are replaced before a request meets them; the act is logged and counted, and none is lost."""
    before = fill(engine)
    terminate_backends(url)
    time.sleep(IDLE)
    assert failures(engine, 2 * THREADS) == 0
    assert acts(recovering) == {"replaced": 1}
    assert [r.message for r in caplog.records if "the database has closed its connections" in r.message]
    assert set(fill(engine)).isdisjoint(before)
    assert recovering.states() == (0, THREADS)


def test_a_restarted_server(recovering: Observed, engine: Engine, postgresql_server: servers.Server) -> None:
    """While the server is down requests fail at once; when it is back, the first one succeeds without a restart."""
    fill(engine)
    postgresql_server.stop()
    time.sleep(IDLE)
    assert failures(engine, 3) == 3
    postgresql_server.start()
    assert failures(engine, 2 * THREADS) == 0
    assert recovering.states()[0] == 0
    assert len(fill(engine)) == THREADS


def test_living_connections_are_kept(recovering: Observed, engine: Engine) -> None:
    """An idle connection that answers is used on."""
    before = fill(engine)
    time.sleep(IDLE)
    assert sorted(fill(engine)) == sorted(before)
    assert acts(recovering) == {}


# --- under load -------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Threads that ask, one request after the other, while it is entered; `answers` has the outcome of each by time."""

    engine: Engine
    answers: list[tuple[float, bool]] = field(default_factory=list)
    other: list[BaseException] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._threads = ThreadPoolExecutor(THREADS)
        self._futures = [self._threads.submit(self._work) for _ in range(THREADS)]
        self.wait_for(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._threads.shutdown()
        for future in self._futures:
            future.result()

    def _work(self) -> None:
        while not self._end.wait(0.01):
            try:
                ask(self.engine)
            except SQLAlchemyError:
                self.answers.append((time.monotonic(), False))
            else:
                self.answers.append((time.monotonic(), True))

    def wait_for(self, number: int) -> None:
        """Wait for so many more good answers."""
        deadline, start = time.monotonic() + 60, time.monotonic()
        while sum(good for when, good in list(self.answers) if when > start) < number:
            assert time.monotonic() < deadline, "the pool does not recover"
            time.sleep(0.02)

    def failed(self, since: float = 0.0) -> int:
        return sum(not good for when, good in self.answers if when > since)


@pytest.mark.parametrize("recovery", [False, True], ids=["without", "with"])
def test_backends_terminated_under_load(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, url: str, recovery: bool
) -> None:
    """Each time at most the requests at work fail; afterwards none does, and no connection is lost or one too many."""
    with observed(monkeypatch, Settings(pool_recovery=recovery)) as seen:
        with Load(engine) as load:
            for _ in range(3):
                terminate_backends(url)
                load.wait_for(40)
            recovered = time.monotonic()
            load.wait_for(40)
        assert load.failed() <= 3 * THREADS
        assert load.failed(since=recovered) == 0
        state = seen.state(engine)
        assert (len(state.waiting), len(state.taken), engine.pool.checkedout()) == (0, 0, 0)  # type: ignore[attr-defined]
        assert len(set(fill(engine))) == THREADS


def test_a_server_that_is_stopped_and_started_under_load(
    recovering: Observed, engine: Engine, postgresql_server: servers.Server
) -> None:
    """Requests fail while it is away and succeed within seconds of its return; no connection is lost."""
    with Load(engine) as load:
        postgresql_server.stop()
        time.sleep(0.5)
        postgresql_server.start()
        back = time.monotonic()
        load.wait_for(40)
        took = time.monotonic() - back
        recovered = time.monotonic()
        load.wait_for(40)
    assert load.failed() > 0
    assert load.failed(since=recovered) == 0
    assert took < 20
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert len(set(fill(engine))) == THREADS
    assert recovering.state(engine).totals.failures > 0


# --- connections left behind ------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql+psycopg"])
def small(request: pytest.FixtureRequest, database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05)
    yield engine
    engine.dispose()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.node.callspec.params["small"] == "sqlite":
        return f"sqlite:///{tmp_path}/a.db"
    return str(request.getfixturevalue("url"))


def client_of(app: flask.Flask) -> Any:
    client = app.test_client()
    return lambda path: client.get(path, buffered=True).text


def test_a_connection_left_behind_is_given_back(
    recovering: Observed, small: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The only connection is leaked ten times, and each request gets it; each act is logged, counted and told."""
    app, kept = flask.Flask("shop"), []

    @app.get("/")
    def leak() -> str:
        kept.append(small.connect())
        return str(kept[-1].scalar(text("SELECT 42")))

    get = client_of(app)
    assert [get("/") for _ in range(10)] == ["42"] * 10
    assert acts(recovering) == {"returned": 10}
    assert recovering.states() == (0, 1)
    assert len(recovering.logs("connection_leak")) == len(recovering.logs("connection_returned")) == 10
    assert len([r for r in caplog.records if "is given back" in r.message]) == 10
    with pytest.raises(ResourceClosedError):
        kept[0].scalar(text("SELECT 1"))


def test_what_was_not_committed_is_rolled_back(recovering: Observed, small: Engine) -> None:
    """A transaction left open ends as a teardown would have ended it."""
    with small.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id INTEGER)"))
    app, kept = flask.Flask("shop"), []

    @app.get("/")
    def leak() -> str:
        kept.append(small.connect())
        kept[-1].execute(text("INSERT INTO notes VALUES (1)"))
        return "left"

    assert client_of(app)("/") == "left"
    with small.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM notes")) == 0


def test_a_session_left_open_can_be_used_again(recovering: Observed, small: Engine) -> None:
    """A global scoped_session that nobody removes works on in every request: it is closed, not its connection."""
    session = scoped_session(sessionmaker(small))
    app = flask.Flask("shop")
    app.get("/")(lambda: str(session.scalar(text("SELECT 42"))))
    get = client_of(app)
    assert [get("/") for _ in range(5)] == ["42"] * 5
    assert acts(recovering) == {"returned": 5}
    assert recovering.states() == (0, 1)


def test_a_session_on_a_connection_of_its_own(recovering: Observed, small: Engine) -> None:
    """A session bound to a connection: both are closed."""
    app, kept = flask.Flask("shop"), []

    @app.get("/")
    def leak() -> str:
        kept.append(Session(small.connect()))
        return str(kept[-1].scalar(text("SELECT 42")))

    get = client_of(app)
    assert [get("/"), get("/")] == ["42", "42"]
    assert recovering.states() == (0, 1)


def test_a_raw_connection_left_behind(recovering: Observed, small: Engine) -> None:
    app, kept = flask.Flask("shop"), []

    @app.get("/")
    def leak() -> str:
        kept.append(small.raw_connection())
        return "left"

    get = client_of(app)
    assert [get("/"), get("/")] == ["left", "left"]
    assert recovering.states() == (0, 1)


def test_a_background_thread_keeps_its_connection(recovering: Observed, small: Engine) -> None:
    """What another thread holds is not taken away from it, whatever the request does."""
    import contextvars

    app, taken, done, got = flask.Flask("shop"), threading.Event(), threading.Event(), []

    def work() -> None:
        with small.connect() as connection:
            taken.set()
            done.wait(30)
            got.append(connection.scalar(text("SELECT 42")))

    @app.get("/")
    def job() -> str:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        taken.wait(30)
        return "started"

    client_of(app)("/")
    done.set()
    while not got:
        time.sleep(0.01)
    assert (got, acts(recovering)) == ([42], {})


# --- off --------------------------------------------------------------------------------------------------------------


def test_off_by_default_nothing_is_touched(monkeypatch: pytest.MonkeyPatch, small: Engine) -> None:
    """No test at a checkout, no listener of recovery, and what a request has left behind stays out."""
    ping = Mock(return_value=True)
    monkeypatch.setattr(small.dialect, "do_ping", ping)
    listeners = len(Pool.dispatch.checkout._clslevel[Pool])  # type: ignore[attr-defined]
    with observed(monkeypatch) as seen:
        app, kept = flask.Flask("shop"), []

        @app.get("/")
        def leak() -> str:
            kept.append(small.connect())
            return "left"

        assert len(Pool.dispatch.checkout._clslevel[Pool]) == listeners  # type: ignore[attr-defined]
        client_of(app)("/")
        assert seen.states() == (1, 0)
        assert kept[0].scalar(text("SELECT 42")) == 42
        kept[0].close()
        time.sleep(IDLE)
        small.connect().close()
        assert (ping.call_count, acts(seen)) == (0, {})


def test_the_environment_variable_switches_it_on() -> None:
    from querywatch.settings import load

    assert load(os.environ).pool_recovery is False
    assert load({"QUERYWATCH_POOL_RECOVERY": "true"}).pool_recovery is True
