"""What is known of a pool is right whatever happens to it, and nothing outlives its engine."""

import gc
import os
import sqlite3
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    AsyncAdaptedQueuePool,
    Engine,
    NullPool,
    Pool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
    create_engine,
    text,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from pools import Observed, observed, run_async
from querywatch import pipeline
from querywatch.pool.state import MAX_POOLS, Usage

pytestmark = pytest.mark.sqlalchemy_matrix


class OwnPool(Pool):
    """A user's pool class: it keeps one connection, and makes more when that is in use."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: list[ConnectionPoolEntry] = []

    def _do_get(self) -> ConnectionPoolEntry:
        return self._kept.pop() if self._kept else self._create_connection()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self._kept.append(record) if not self._kept else record.close()

    def recreate(self) -> "OwnPool":
        return type(self)(self._creator, _dispatch=self.dispatch, dialect=self._dialect)

    def dispose(self) -> None:
        while self._kept:
            self._kept.pop().close()

    def status(self) -> str:
        return "OwnPool"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    with observed(monkeypatch) as seen:
        yield seen


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url, poolclass=QueuePool, pool_size=2, max_overflow=1, pool_timeout=0.05)
    yield engine
    engine.dispose()


def usage(seen: Observed, engine: Engine) -> tuple[int, int]:
    """Used and idle connections, as the exported metric has them."""
    state = seen.state(engine).usage()
    assert state is not None
    assert seen.states() == (state.used, state.idle)
    return seen.states()


@pytest.mark.parametrize(
    ("poolclass", "options", "bounds"),
    [
        (QueuePool, {"pool_size": 2, "max_overflow": 1}, (3, 2, 0)),
        (QueuePool, {"pool_size": 2, "max_overflow": -1}, (None, 2, 0)),
        (QueuePool, {"pool_size": 0}, (None, None, 0)),
        (NullPool, {}, (None, 0, 0)),
        (StaticPool, {}, (None, None, 0)),
        (SingletonThreadPool, {"pool_size": 4}, (None, 4, 0)),
        (OwnPool, {}, (None, None, 0)),
    ],
)
def test_every_class_of_pool(
    seen: Observed, database_url: str, poolclass: type[Pool], options: dict[str, int], bounds: tuple[int | None, ...]
) -> None:
    """Used, idle and bounds while a connection is out and after its return; a class without a bound has none."""
    engine = create_engine(database_url, poolclass=poolclass, **options)
    with engine.connect():
        state = seen.state(engine).usage()
        assert isinstance(state, Usage)
        assert (state.used, state.idle, state.pending) == (1, 0, 0)
        assert (state.max, state.idle_max, state.idle_min) == bounds
    assert usage(seen, engine) == (0, 0 if poolclass is NullPool else 1)
    engine.dispose()
    assert usage(seen, engine) == (0, 0)


@pytest.mark.parametrize("database_url", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True)
def test_the_asynchronous_pool(seen: Observed, database_url: str) -> None:
    """AsyncAdaptedQueuePool is read as QueuePool is; overflow counts as used."""

    async def work(engine: Any) -> None:
        async with engine.connect() as one, engine.connect():
            assert (await one.execute(text("SELECT 1"))).scalar() == 1
            assert usage(seen, engine.sync_engine) == (2, 0)
        assert usage(seen, engine.sync_engine) == (0, 1)
        assert seen.value("db.client.connection.max") == 2

    run_async(database_url, work, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=1)


def test_overflow(seen: Observed, engine: Engine) -> None:
    """Three are used of two and one more; the one too many is closed at its return."""
    connections = [engine.connect() for _ in range(3)]
    assert usage(seen, engine) == (3, 0)
    assert seen.state(engine).utilization == 1
    for connection in connections:
        connection.close()
    assert usage(seen, engine) == (0, 2)


def test_detached(seen: Observed, engine: Engine) -> None:
    """A detached connection is the pool's no more: neither used nor idle."""
    connection = engine.connect()
    connection.detach()
    assert usage(seen, engine) == (0, 0)
    with engine.connect():
        assert usage(seen, engine) == (1, 0)
    connection.close()
    assert usage(seen, engine) == (0, 1)


def test_invalidated(seen: Observed, engine: Engine) -> None:
    """An invalidated connection is neither used nor idle; used again, a new one is made."""
    with engine.connect() as connection:
        connection.invalidate()
        assert usage(seen, engine) == (0, 0)
        connection.execute(text("SELECT 1"))
        assert usage(seen, engine) == (1, 0)
    assert usage(seen, engine) == (0, 1)


@pytest.fixture
def abandoned_pools() -> Iterator[None]:
    """SQLAlchemy leaves connections that come back to a disposed pool to the garbage collector: here, and quietly."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.usefixtures("abandoned_pools")
def test_disposed_with_connections_out(seen: Observed, engine: Engine) -> None:
    """They stay used until they come back, beside those of the new pool; then they are gone, never below zero."""
    one, two = engine.connect(), engine.connect()
    engine.dispose()
    assert usage(seen, engine) == (2, 0)
    with engine.connect():
        assert usage(seen, engine) == (3, 0)
        one.close()
        assert usage(seen, engine) == (2, 0)
    two.close()
    assert usage(seen, engine) == (0, 1)
    del one, two


@pytest.mark.usefixtures("abandoned_pools")
def test_a_pool_disposed_of_beneath_its_engine(seen: Observed, engine: Engine) -> None:
    """`engine.pool.dispose()` makes SQLAlchemy count to -1: used is zero."""
    with engine.connect():
        engine.pool.dispose()
    assert engine.pool.checkedout() == -1  # type: ignore[attr-defined]
    assert usage(seen, engine)[0] == 0


def test_a_connection_lost_to_the_garbage_collector(seen: Observed, engine: Engine) -> None:
    """One that nobody closed and nobody has any more is idle again."""
    connection = engine.raw_connection()
    assert usage(seen, engine) == (1, 0)
    del connection
    gc.collect()
    assert usage(seen, engine) == (0, 1)
    assert seen.state(engine).checkouts() == []


@pytest.mark.parametrize("database_url", ["postgresql+psycopg"], indirect=True)
def test_a_reconnect_of_the_pre_ping(seen: Observed, database_url: str) -> None:
    """The dead connection is replaced: one idle, one more made, nothing failed."""
    engine = create_engine(database_url, pool_pre_ping=True)
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    other = create_engine(database_url, poolclass=NullPool)
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != pid
        state = seen.state(engine)
        assert (state.usage(), state.totals.failures) == (Usage(1, 0, 15, 5, 0, 0), 0)
    assert (state.usage(), len(state.waiting)) == (Usage(0, 1, 15, 5, 0, 0), 0)
    engine.dispose()


def test_a_failed_connect(seen: Observed, tmp_path: Path) -> None:
    """Nothing is used, idle or pending after it, and it counts as a failure and no time-out."""
    engine = create_engine(f"sqlite:///{tmp_path}/none/test.db")
    for _ in range(2):
        with pytest.raises(OperationalError):
            engine.connect()
    state = seen.state(engine)
    assert usage(seen, engine) == (0, 0)
    assert (len(state.waiting), state.totals.failures, state.totals.timeouts) == (0, 2, 0)
    assert seen.points("db.client.connection.wait_time") == []


def test_connections_before_the_hooks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection made, and one taken, before QueryWatch was there are counted all the same."""
    early = engine.connect()
    with engine.connect():
        pass
    with observed(monkeypatch) as seen, engine.connect():
        assert usage(seen, engine) == (2, 0)
        early.close()
        assert usage(seen, engine) == (1, 1)


def test_removed_hooks_have_no_series(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `uninstall` the gauges are silent, and a connection taken before is returned in peace."""
    with observed(monkeypatch) as seen:
        connection = engine.connect()
        assert seen.states() == (1, 0)
        pipeline.uninstall()
        connection.close()
        assert seen.points("db.client.connection.count") == []
        with engine.connect():
            assert seen.points("db.client.connection.count") == []


# --- names ------------------------------------------------------------------------------------------------------------


def names(seen: Observed) -> set[str]:
    return set(seen.values("db.client.connection.idle.min"))


def touch(url: str, **options: Any) -> Engine:
    """An engine that has been used once."""
    engine = create_engine(url, **options)
    engine.connect().close()
    return engine


def test_names_follow_the_semantic_conventions(seen: Observed, postgresql_url: str, tmp_path: Path) -> None:
    """`host:port/database`, the path of a SQLite file, the dialect where there is nothing else."""
    _, _, address = postgresql_url.partition("@")
    engines = [
        touch(postgresql_url.replace("://", "+psycopg://")),
        touch(f"sqlite:///{tmp_path}/a.db"),
        touch("sqlite://"),
    ]
    assert names(seen) == {address, f"{tmp_path}/a.db", "sqlite"}
    assert address.count(":") == 1
    engines[0].dispose()


def test_a_password_is_in_no_name(seen: Observed) -> None:
    engine = create_engine("postgresql+psycopg://user:secret@127.0.0.1:1/shop")
    assert seen.state(engine).name == "127.0.0.1:1/shop"


def test_the_logging_name_wins(seen: Observed) -> None:
    engine = touch("sqlite://", pool_logging_name="orders")
    assert names(seen) == {"orders"}
    engine.dispose()
    touch("sqlite://", pool_logging_name="stock")
    assert seen.state(engine).name == "orders"


def test_equal_names_are_numbered_and_freed(seen: Observed, tmp_path: Path) -> None:
    """A second living pool gets `#2`; the name of an engine that is gone is free again."""
    url = f"sqlite:///{tmp_path}/a.db"
    one, two = touch(url), touch(url)
    assert [seen.state(engine).name for engine in (one, two)] == [f"{tmp_path}/a.db", f"{tmp_path}/a.db#2"]
    del one
    gc.collect()
    three = touch(url)
    assert seen.state(three).name == f"{tmp_path}/a.db"
    assert names(seen) == {f"{tmp_path}/a.db", f"{tmp_path}/a.db#2"}


def test_views_of_an_engine_share_its_pool(seen: Observed) -> None:
    """`execution_options()` makes no second pool, `dispose()` no second series."""
    engine = touch("sqlite://")
    engine.execution_options(isolation_level="AUTOCOMMIT").connect().close()
    engine.dispose()
    engine.connect().close()
    assert names(seen) == {"sqlite"}


def test_engines_for_each_tenant_stay_bounded(seen: Observed, tmp_path: Path) -> None:
    """However many databases come and go, histograms have a bounded number of series."""
    for number in range(MAX_POOLS + 10):
        touch(f"sqlite:///{tmp_path}/{number}.db").dispose()
    assert len(seen.points("db.client.connection.wait_time")) == MAX_POOLS + 1


# --- the end of engines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dispose", [True, False])
@pytest.mark.parametrize("poolclass", [QueuePool, NullPool, StaticPool, OwnPool])
def test_an_engine_that_is_gone_leaves_nothing(
    seen: Observed, tmp_path: Path, poolclass: type[Pool], dispose: bool
) -> None:
    """Engine, pool, record and connection are collected, and no gauge has a series of theirs."""

    class Connection(sqlite3.Connection):
        """SQLite's own has no weak references."""

    engine = create_engine(
        f"sqlite:///{tmp_path}/a.db",
        poolclass=poolclass,
        connect_args={"factory": Connection, "check_same_thread": False},
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        proxy: Any = connection.connection
        things = [engine, engine.pool, proxy._connection_record, proxy.dbapi_connection, seen.state(engine)]
    alive = [weakref.ref(thing) for thing in things[:-1]]
    assert len(seen.points("db.client.connection.count")) == 2
    if dispose:
        engine.dispose()
    del engine, connection, proxy, things
    gc.collect()
    assert [reference() for reference in alive] == [None] * 4
    for metric in ("count", "idle.min", "pending_requests"):
        assert seen.points(f"db.client.connection.{metric}") == []
    assert seen.points("querywatch.pool.health") == []


def test_a_connection_that_outlives_its_engine(seen: Observed, tmp_path: Path) -> None:
    """A kept connection holds SQLAlchemy's engine, not ours; without it the engine goes."""
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    raw = engine.raw_connection()
    reference = weakref.ref(engine)
    del engine
    gc.collect()
    raw.close()
    del raw
    gc.collect()
    assert reference() is None
    assert list(seen.pools) == []


# --- fork -------------------------------------------------------------------------------------------------------------


def in_a_child(work: Any) -> bytes:
    """What `work` returns in a forked process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def test_a_child_inherits_no_waits_and_no_checkouts(seen: Observed, engine: Engine) -> None:
    """Threads of the parent that wait or hold connections do not exist in the child."""
    state = seen.state(engine)
    held = [engine.connect() for _ in range(3)]
    waits = threading.Event()

    def ask() -> None:
        waits.set()
        with pytest.raises(Exception, match="QueuePool limit"):
            engine.connect()

    engine.pool._timeout = 2.0  # type: ignore[attr-defined]
    thread = threading.Thread(target=ask)
    thread.start()
    waits.wait()
    while not state.waiting:
        pass

    def child() -> Any:
        engine.dispose(close=False)
        with engine.connect():
            return state.usage()

    assert in_a_child(child) == repr(Usage(1, 0, 3, 2, 0, 0)).encode()
    assert len(state.waiting) == 1
    thread.join()
    for connection in held:
        connection.close()


def watching(seen: Observed) -> list[threading.Thread]:
    """The living thread of this pipeline's watch; those of other tests' may be about to end."""
    return [thread for thread in threading.enumerate() if thread is seen.watch._thread]


def test_the_watch_of_a_child_starts_anew(seen: Observed, engine: Engine) -> None:
    """The parent's thread is running; the child has one of its own as soon as it takes a connection."""
    engine.connect().close()
    assert len(watching(seen)) == 1

    def child() -> Any:
        engine.dispose(close=False)
        before = len(watching(seen))
        with engine.connect():
            return before, len(watching(seen))

    assert in_a_child(child) == b"(0, 1)"


def test_the_watch_ends_with_the_instrumentation(seen: Observed, engine: Engine) -> None:
    engine.connect().close()
    [thread] = watching(seen)
    pipeline.uninstall()
    thread.join(10)
    assert not thread.is_alive()
