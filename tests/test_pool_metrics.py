"""The pool's metrics: counts are exact, times at least what they must be, and gauges move with the pool."""

import asyncio
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import AsyncAdaptedQueuePool, Engine, QueuePool, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pools import Observed, observed, run_async
from querywatch.pool.health import Vitals

pytestmark = pytest.mark.sqlalchemy_matrix

PREFIX = "db.client.connection"
HOLD = 0.2
"""Seconds that a connection is held at least, where a time is looked at."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    with observed(monkeypatch) as seen:
        yield seen


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url, poolclass=QueuePool, pool_size=1, max_overflow=1, pool_timeout=0.05)
    yield engine
    engine.dispose()


def exhausted(engine: Engine) -> None:
    """One checkout that gets no connection."""
    with pytest.raises(PoolTimeoutError):
        engine.connect()


def wait_for(engine: Engine, seen: Observed, number: int) -> None:
    deadline = time.monotonic() + 20
    while len(seen.state(engine).waiting) < number:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_checkout_has_one_wait_and_one_use(seen: Observed, engine: Engine) -> None:
    """Every connection was waited for, used, and made once: counts exactly."""
    for _ in range(5):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    counts = [seen.histogram(f"{PREFIX}.{name}").count for name in ("wait_time", "use_time", "create_time")]
    assert counts == [5, 5, 1]


def test_use_time_is_how_long_it_was_out(seen: Observed, engine: Engine) -> None:
    with engine.connect():
        time.sleep(HOLD)
    point = seen.histogram(f"{PREFIX}.use_time")
    assert point.sum >= HOLD
    assert seen.state(engine).totals.used == pytest.approx(point.sum)


def test_create_time_is_no_wait_time(seen: Observed, tmp_path: Path) -> None:
    """A slow connect is in the one histogram and not in the other, for `do_connect` as for a `creator`."""
    import sqlite3

    def slow() -> sqlite3.Connection:
        time.sleep(HOLD)
        return sqlite3.connect(tmp_path / "a.db")

    engine = create_engine("sqlite://", creator=slow, poolclass=QueuePool)
    engine.connect().close()
    assert seen.histogram(f"{PREFIX}.create_time").sum >= HOLD
    assert seen.histogram(f"{PREFIX}.wait_time").sum < HOLD


def test_waiting_threads_are_pending_and_their_waits_are_measured(seen: Observed, engine: Engine) -> None:
    """Three wait while two hold: pending is three, then zero, and each of the waits is at least the time held."""
    engine.pool._timeout = 20.0  # type: ignore[attr-defined]
    held = [engine.connect(), engine.connect()]
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(lambda: engine.connect().close()) for _ in range(3)]
        wait_for(engine, seen, 3)
        time.sleep(HOLD)
        assert seen.value(f"{PREFIX}.pending_requests") == 3
        for connection in held:
            connection.close()
        for future in futures:
            future.result(20)
    assert seen.value(f"{PREFIX}.pending_requests") == 0
    point = seen.histogram(f"{PREFIX}.wait_time")
    assert (point.count, point.sum >= 3 * HOLD) == (5, True)
    assert seen.state(engine).totals.waited >= 3 * HOLD


def test_time_outs_are_counted(seen: Observed, engine: Engine) -> None:
    """Each checkout that got nothing is one, and its wait at least the pool's time-out."""
    with engine.connect(), engine.connect():
        exhausted(engine)
        exhausted(engine)
    assert seen.value(f"{PREFIX}.timeouts") == 2
    assert seen.value(f"{PREFIX}.pending_requests") == 0
    assert seen.histogram(f"{PREFIX}.wait_time").sum >= 2 * 0.05


@pytest.mark.parametrize("database_url", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True)
def test_an_asynchronous_engine(seen: Observed, database_url: str) -> None:
    """Tasks that wait are pending; time-outs, waits, uses and creations are counted; a cancelled wait ends."""

    async def work(engine: Any) -> None:
        sync = engine.sync_engine
        async with engine.connect() as connection:
            with pytest.raises(PoolTimeoutError):
                await engine.connect()
            task = asyncio.create_task(engine.connect().start())
            while not seen.state(sync).waiting:
                await asyncio.sleep(0.001)
            assert seen.value(f"{PREFIX}.pending_requests") == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await connection.execute(text("SELECT 1"))
        assert seen.value(f"{PREFIX}.pending_requests") == 0
        assert seen.value(f"{PREFIX}.timeouts") == 1
        assert seen.state(sync).totals.failures == 0
        assert [seen.histogram(f"{PREFIX}.{name}").count for name in ("wait_time", "use_time", "create_time")] == [
            2,
            1,
            1,
        ]

    run_async(database_url, work, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0, pool_timeout=0.2)


def test_two_engines_have_their_own_series(seen: Observed, database_url: str) -> None:
    """What happens at one pool is not in the other's numbers."""
    one, two = (create_engine(database_url, poolclass=QueuePool, pool_logging_name=name) for name in ("one", "two"))
    two.connect().close()
    with one.connect(), one.connect():
        assert seen.values(f"{PREFIX}.max") == {"one": 15, "two": 15}
        assert seen.values("querywatch.pool.utilization") == {"one": 2 / 15, "two": 0}
    assert {p.attributes[f"{PREFIX}.pool.name"]: p.count for p in seen.points(f"{PREFIX}.use_time")} == {
        "one": 2,
        "two": 1,
    }
    one.dispose()
    two.dispose()


def test_a_connection_made_for_another_one(seen: Observed, tmp_path: Path) -> None:
    """An engine whose `connect` event asks another engine: each creation counts for its own pool."""
    inner = create_engine(f"sqlite:///{tmp_path}/inner.db", pool_logging_name="inner")
    outer = create_engine(f"sqlite:///{tmp_path}/outer.db", pool_logging_name="outer")
    event.listen(outer, "connect", lambda *_: inner.connect().close())
    outer.connect().close()
    assert {p.attributes[f"{PREFIX}.pool.name"]: p.count for p in seen.points(f"{PREFIX}.create_time")} == {
        "inner": 1,
        "outer": 1,
    }


def test_unlimited_overflow_has_no_maximum(seen: Observed, database_url: str) -> None:
    engine = create_engine(database_url, poolclass=QueuePool, max_overflow=-1)
    with engine.connect():
        assert seen.points(f"{PREFIX}.max") == []
        assert seen.points("querywatch.pool.utilization") == []
        assert seen.value("querywatch.pool.health") == 1
    engine.dispose()


def test_a_closed_engine_keeps_its_histograms_and_loses_its_gauges(seen: Observed, tmp_path: Path) -> None:
    """No ghost: gauges of an engine that is gone have no point any more, not one that stands still."""
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    engine.connect().close()
    assert seen.value(f"{PREFIX}.idle.min") == 0
    del engine
    gc.collect()
    assert seen.points(f"{PREFIX}.idle.min") == []
    assert seen.histogram(f"{PREFIX}.use_time").count == 1


def test_many_threads_lose_nothing(seen: Observed, database_url: str) -> None:
    """8 threads, 400 checkouts: as many waits and uses, and nobody waits or holds any more."""
    engine = create_engine(database_url, poolclass=QueuePool, pool_size=2, max_overflow=1)

    def work() -> None:
        for _ in range(50):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(work) for _ in range(8)]
        while not all(future.done() for future in futures):
            used, _ = seen.states()
            assert 0 <= used <= 3
        for future in futures:
            future.result()
    assert [seen.histogram(f"{PREFIX}.{name}").count for name in ("wait_time", "use_time")] == [400, 400]
    state = seen.state(engine)
    assert (len(state.waiting), len(state.taken), seen.states()[0]) == (0, 0, 0)
    engine.dispose()


def test_times_beyond_the_buffer_are_recorded_all_the_same(
    seen: Observed, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for three values, nine are counted."""
    monkeypatch.setattr("querywatch.metrics._MAX_LATE", 3)
    for _ in range(9):
        engine.connect().close()
    assert seen.histogram(f"{PREFIX}.wait_time").count == 9


def test_the_helpers_of_late_times_are_not_exported(seen: Observed, engine: Engine) -> None:
    """The instruments through which late times are gathered have no points, so nobody sees them."""
    engine.connect().close()
    data = seen.reader.get_metrics_data()
    assert data is not None
    exported = {metric.name for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics}
    assert {name for name in exported if name.endswith(".late")} == set()
    assert f"{PREFIX}.wait_time" in exported


# --- health -----------------------------------------------------------------------------------------------------------


def test_health_moves_with_the_pool(seen: Observed, engine: Engine) -> None:
    """1 while all is well, a half at a full pool, less with a time-out."""
    with engine.connect():
        assert seen.value("querywatch.pool.health") == 1
        with engine.connect():
            assert seen.value("querywatch.pool.utilization") == 1
            assert seen.value("querywatch.pool.health") == 0.5
            exhausted(engine)
            assert 0 <= seen.value("querywatch.pool.health") < 0.4


def test_a_quiet_pool_is_healthy(seen: Observed, engine: Engine) -> None:
    """The microseconds of a checkout and the pre-ping are no waits: nobody held what was asked for."""
    held = engine.connect()
    assert seen.value("querywatch.pool.health") == 1
    held.close()
    assert seen.value("querywatch.pool.health") == 1


def test_a_database_that_is_gone_is_no_healthy_pool(seen: Observed, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/none/a.db")
    with pytest.raises(OperationalError):
        engine.connect()
    assert seen.value("querywatch.pool.health") == 0


def test_vitals_are_of_the_last_minute(seen: Observed, engine: Engine) -> None:
    """A time-out counts until a minute later, and not for ever."""
    with engine.connect(), engine.connect():
        exhausted(engine)
    state = seen.state(engine)
    usage = state.usage()
    assert usage is not None
    now = time.monotonic()
    assert state.vitals(usage, now).timeout_share == pytest.approx(1 / 3)
    assert state.vitals(usage, now + 30).timeout_share == pytest.approx(1 / 3)
    state.vitals(usage, now + 61)
    assert state.vitals(usage, now + 91) == Vitals()


def test_the_share_of_waiting(seen: Observed, engine: Engine) -> None:
    """One second of waiting beside three of using is a quarter, those of connections still in use included."""
    state = seen.state(engine)
    usage = state.usage()
    assert usage is not None
    state.totals.waited, state.totals.used = 1.0, 3.0
    assert state.vitals(usage, time.monotonic()).wait_share == pytest.approx(0.25)
    with engine.connect():
        [checkout] = state.checkouts()
        checkout.started -= 6
        assert state.vitals(usage, time.monotonic()).wait_share == pytest.approx(0.1, rel=0.1)


def test_use_time_and_peak_rate(seen: Observed, engine: Engine) -> None:
    """What a pool's size is computed from: the mean time of use, and the checkouts of the busiest 10 seconds."""
    state, now = seen.state(engine), time.monotonic()
    assert (state.use_time, state.peak_rate) == (0, 0)
    for seconds in range(40):
        state.totals.checkouts += 30 if 15 <= seconds < 25 else 1
        state.note_rate(now + seconds)
    assert state.peak_rate == pytest.approx(30, rel=0.1)
    state.totals.used, state.totals.returns = 6.0, 12
    assert state.use_time == 0.5
