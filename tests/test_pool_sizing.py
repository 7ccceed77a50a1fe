"""Pool sizes: the formulas against a simulation of a pool, against real threads, and against common sense."""

import doctest
import heapq
import itertools
import math
import random
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import querywatch
from querywatch.pool.sizing import ERLANG_C, HIKARICP, LITTLE, MAX_CONNECTIONS, POOLING, WHITT, PoolSize

recommend = querywatch.recommend_pool_size

CHECKOUTS = 200_000
WAIT_TARGET = 0.010
WAIT_SHARE = 0.05


# --- a simulated pool -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Recorded:
    """A load as it is recorded: when connections were asked for, and how long each was used. Seconds."""

    arrivals: Sequence[float]
    uses: Sequence[float]

    @property
    def rate(self) -> float:
        return len(self.arrivals) / self.arrivals[-1]

    @property
    def use_time(self) -> float:
        return statistics.fmean(self.uses)

    @property
    def variation(self) -> float:
        return statistics.pstdev(self.uses) / self.use_time


class Served(NamedTuple):
    """How a pool of one size has served a load."""

    slow_share: float
    mean_wait: float
    utilization: float


def record(rate: float, use_time: Callable[[random.Random], float]) -> Recorded:
    """Requests that come independently of each other; the same ones at each call."""
    chance = random.Random(1909)
    arrivals = list(itertools.accumulate(chance.expovariate(rate) for _ in range(CHECKOUTS)))
    return Recorded(arrivals, [use_time(chance) for _ in range(CHECKOUTS)])


def exponential(mean: float) -> Callable[[random.Random], float]:
    return lambda chance: chance.expovariate(1 / mean)


def simulate(size: int, load: Recorded) -> Served:
    """Serve every checkout in its order by the connection that is free first."""
    free_at = [0.0] * size
    waits, busy, end = [], 0.0, load.arrivals[-1]
    for arrival, use in zip(load.arrivals, load.uses, strict=True):
        start = max(arrival, free_at[0])
        heapq.heapreplace(free_at, start + use)
        waits.append(start - arrival)
        busy += min(start + use, end) - min(start, end)
    slow = sum(wait > WAIT_TARGET for wait in waits)
    return Served(slow / CHECKOUTS, statistics.fmean(waits), busy / (end * size))


def recommended_for(load: Recorded, **more: Any) -> PoolSize:
    measured: dict[str, Any] = {"use_time": load.use_time, "checkout_rate": load.rate}
    return recommend(**measured, wait_target=WAIT_TARGET, wait_share=WAIT_SHARE, **more)


BOUND_BY_WAITS = [(40, 0.1), (100, 0.02), (200, 0.05), (10, 0.5), (20, 0.1), (3, 0.5)]
"""Checkouts a second, and seconds of use on average."""


@pytest.mark.parametrize(("rate", "use_time"), BOUND_BY_WAITS)
def test_the_size_serves_the_recorded_load_and_one_less_does_not(rate: float, use_time: float) -> None:
    """At most 5 % of the checkouts wait longer than 10 ms; with one connection less it is more."""
    load = record(rate, exponential(use_time))
    pool = recommended_for(load)
    assert pool.binding.name == "wait"
    assert simulate(pool.size, load).slow_share <= WAIT_SHARE
    assert simulate(pool.size - 1, load).slow_share > WAIT_SHARE


@pytest.mark.parametrize(("rate", "use_time"), BOUND_BY_WAITS[:4])
@pytest.mark.parametrize("fewer", [0, 1])
def test_the_numbers_are_those_of_the_simulation(fewer: int, rate: float, use_time: float) -> None:
    """Share of slow checkouts, mean wait and utilisation agree within a tenth, at the size and at one less."""
    load = record(rate, exponential(use_time))
    needed = recommended_for(load).size
    told = recommended_for(load, database_limit=needed - fewer, reserved=0)
    assert told.size == needed - fewer
    served = simulate(told.size, load)
    assert told.slow_share == pytest.approx(served.slow_share, rel=0.1)
    assert told.mean_wait == pytest.approx(served.mean_wait, rel=0.1)
    assert told.utilization == pytest.approx(served.utilization, rel=0.01)


def test_headroom_keeps_the_average_under_80_percent_where_the_load_is_large() -> None:
    """With many connections few would wait at 90 % either: then the headroom settles the size, to the connection."""
    load = record(2000, exponential(0.05))
    pool = recommended_for(load)
    assert pool.binding.name == "load"
    served = simulate(pool.size, load)
    assert served.slow_share <= WAIT_SHARE
    assert served.utilization <= 0.8 < simulate(pool.size - 1, load).utilization


@pytest.mark.parametrize("rate", [20, 100, 400])
def test_use_times_that_vary_more_are_served_as_well(rate: float) -> None:
    """A few long transactions among many short ones: the measured variation asks for more connections."""
    load = record(rate, lambda chance: chance.lognormvariate(math.log(0.01), 1.3))
    pool = recommended_for(load, use_variation=load.variation)
    assert load.variation > 1.5
    assert simulate(pool.size, load).slow_share <= WAIT_SHARE
    assert pool.size >= recommended_for(load).size


def test_use_times_that_do_not_vary_are_served_as_well() -> None:
    load = record(100, lambda _: 0.04)
    assert simulate(recommended_for(load, use_variation=0).size, load).slow_share <= WAIT_SHARE


def test_a_pool_that_does_not_keep_up_is_told_as_such() -> None:
    """More is asked for than the database gives: everybody waits, ever longer."""
    pool = recommend(use_time=0.1, checkout_rate=100, database_limit=8, reserved=0)
    assert (pool.size, pool.slow_share, pool.mean_wait, pool.utilization) == (8, 1.0, math.inf, 1.25)
    assert "10 are asked for on average, so that requests queue up" in pool.reason
    assert simulate(8, record(100, exponential(0.1))).slow_share > 0.99


# --- real threads on a real pool --------------------------------------------------------------------------------------


def time_outs(size: int, threads: int, held: int, timeout: float) -> int:
    """Let threads take all but their last connection, wait for each other, then take that; count who got none."""
    engine = create_engine("sqlite:///file:deadlock?mode=memory&cache=shared&uri=true", **_queue(size, timeout))
    met = threading.Barrier(threads, timeout=30)
    failed = []

    def hold() -> None:
        connections = [engine.connect() for _ in range(held - 1)]
        met.wait()
        try:
            connections.append(engine.connect())
        except PoolTimeoutError as error:
            failed.append(error)
        for connection in connections:
            connection.close()

    running = [threading.Thread(target=hold) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    engine.dispose()
    return len(failed)


def _queue(size: int, timeout: float) -> dict[str, Any]:
    from sqlalchemy.pool import QueuePool

    same_thread = {"connect_args": {"check_same_thread": False}}
    return {"poolclass": QueuePool, "pool_size": size, "max_overflow": 0, "pool_timeout": timeout, **same_thread}


@pytest.mark.parametrize(("threads", "held"), [(4, 2), (3, 3)])
def test_threads_that_hold_several_connections_need_the_floor(threads: int, held: int) -> None:
    """On a real QueuePool: with the floor all of them get through, with one connection less they are stuck."""
    pool = recommend(use_time=0.001, checkout_rate=1, threads=threads, held=held)
    assert pool.binding.name == "deadlock"
    assert time_outs(pool.size, threads, held, timeout=30) == 0
    assert time_outs(pool.size - 1, threads, held, timeout=0.1) > 0


# --- bounds -----------------------------------------------------------------------------------------------------------


def bound_of(pool: PoolSize, name: str) -> tuple[int, str]:
    [bound] = [bound for bound in pool.bounds if bound.name == name]
    return bound.connections, bound.source


def test_every_bound_has_its_number_and_its_source() -> None:
    """20 connections in use and a quarter more; 16 threads that hold two; 97 connections for 4 processes."""
    pool = recommend(use_time=0.1, checkout_rate=200, threads=16, held=2, database_limit=100, processes=4)
    assert bound_of(pool, "load") == (25, LITTLE)
    assert bound_of(pool, "wait") == (27, ERLANG_C)
    assert bound_of(pool, "deadlock") == (17, HIKARICP)
    assert bound_of(pool, "threads") == (32, POOLING)
    assert bound_of(pool, "database") == (24, MAX_CONNECTIONS)
    assert (pool.size, pool.binding.name) == (24, "database")
    assert pool.reason.startswith("24 connections: the database leaves 24 to each of 4 processes, without that limit")


def test_variation_names_its_own_source() -> None:
    assert bound_of(recommend(use_time=0.1, checkout_rate=20, use_variation=2), "wait")[1] == WHITT


def test_threads_that_all_have_a_connection_need_no_more() -> None:
    """Eight threads never use a ninth connection, and none of them ever waits."""
    pool = recommend(use_time=0.1, checkout_rate=70, threads=8)
    assert (pool.size, pool.binding.name, pool.slow_share, pool.mean_wait) == (8, "threads", 0.0, 0.0)
    assert pool.reason == (
        "8 connections: 8 threads that hold 1 each never use more than 8, without that limit it would be 12 (wait)."
    )


def test_a_database_that_is_too_small_for_the_threads_is_called_a_danger() -> None:
    pool = recommend(use_time=0.01, checkout_rate=1, threads=8, held=2, database_limit=20, processes=4)
    assert (pool.size, pool.binding.name) == (4, "database")
    assert "Danger: with fewer than 9, 8 threads that hold 2 each can wait for each other for ever." in pool.reason


def test_a_sum_that_is_whole_is_not_rounded_up_for_its_binary_digits() -> None:
    """0.1 * 30 is 3.0000000000000004 to a computer, and 3 connections to everybody else."""
    assert bound_of(recommend(use_time=0.1, checkout_rate=30, headroom=0), "load")[0] == 3


def test_the_guides_example_is_true() -> None:
    """What docs/pool-sizing.md shows as an answer is the answer."""
    page = (Path(__file__).parents[1] / "docs" / "pool-sizing.md").read_text().replace("```", "")
    example = doctest.DocTestParser().get_doctest(page, {"querywatch": querywatch}, "pool-sizing.md", None, 0)
    assert doctest.DocTestRunner().run(example) == (0, 3)


# --- properties -------------------------------------------------------------------------------------------------------


def loads() -> Iterator[dict[str, Any]]:
    """Two hundred loads of all kinds, the same ones at each run."""
    chance = random.Random(42)
    for _ in range(200):
        yield {
            "use_time": 10 ** chance.uniform(-4, 1),
            "checkout_rate": 10 ** chance.uniform(-2, 2.5),
            "headroom": chance.uniform(0, 1),
            "wait_target": 10 ** chance.uniform(-4, 0),
            "wait_share": chance.uniform(0.001, 0.5),
            "use_variation": chance.uniform(0, 4),
            "threads": chance.randint(1, 64),
            "held": chance.randint(1, 4),
            "database_limit": chance.randint(100, 1000),
            "processes": chance.randint(1, 64),
        }


UNLIMITED: dict[str, Any] = {"threads": None, "held": 1, "database_limit": None}


@pytest.mark.parametrize(
    ("name", "factor", "grows"),
    [
        ("use_time", 1.3, True),
        ("checkout_rate", 1.3, True),
        ("headroom", 1.3, True),
        ("use_variation", 1.3, True),
        ("wait_target", 1.3, False),
        ("wait_share", 1.3, False),
    ],
)
def test_more_load_never_asks_for_fewer_and_more_patience_never_for_more(name: str, factor: float, grows: bool) -> None:
    """Each value moves the size one way only, and does move it."""
    steps = []
    for load in loads():
        less = {**load, **UNLIMITED}
        more = {**less, name: less[name] * factor}
        steps.append(recommend(**more).size - recommend(**less).size)
    assert all(step >= 0 for step in steps) if grows else all(step <= 0 for step in steps)
    assert any(steps)


def test_a_size_keeps_every_promise() -> None:
    """Never more than the database or the threads allow, and else never less than load, waits and deadlocks ask for."""
    for load in loads():
        pool = recommend(**load)
        number = {bound.name: bound.connections for bound in pool.bounds}
        needed = max(number["load"], number["wait"], number.get("deadlock", 1))
        assert pool.size == min(needed, number["threads"], number["database"])
        assert pool.size == pool.binding.connections
        assert pool.size * load["processes"] + 3 <= load["database_limit"]
        assert 0 <= pool.slow_share <= 1
        assert pool.binding.name not in ("load", "wait", "deadlock") or pool.slow_share <= load["wait_share"]


# --- bad values -------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"use_time": 0.1, "checkout_rate": 10, "threads": 8, "database_limit": 100}


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["use_time", "checkout_rate"])
def test_a_load_that_is_none_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}={value}: expected a number above 0"):
        recommend(**{**GOOD, name: value})


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["headroom", "wait_target", "use_variation", "wait_share"])
def test_a_target_that_is_none_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}={value}: expected"):
        recommend(**{**GOOD, name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5])
@pytest.mark.parametrize("name", ["threads", "held", "database_limit", "processes"])
def test_a_count_that_is_none_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}={value}: expected a whole number of 1 or more"):
        recommend(**{**GOOD, name: value})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"use_time": 250, "checkout_rate": 900},
            r"use_time \* checkout_rate=225000: expected seconds, and checkouts a",
        ),
        ({"threads": None, "held": 2}, "held=2: needs threads as well"),
        ({"database_limit": 20, "processes": 18}, "database_limit=20: without the 3 reserved ones not one connection"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any], told: str) -> None:
    """Milliseconds taken for seconds, a deadlock that nothing bounds, more processes than connections."""
    with pytest.raises(ValueError, match=told):
        recommend(**{**GOOD, **values})
