"""How many connections a pool needs: pure functions of what was measured, with the source of each formula."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LITTLE: Final = "https://doi.org/10.1287/opre.9.3.383"
"""J. D. C. Little, "A Proof for the Queuing Formula: L = λW", 1961."""
ERLANG_C: Final = "https://en.wikipedia.org/wiki/M/M/c_queue"
"""A. K. Erlang, 1917: waiting in one queue before several equal servers."""
WHITT: Final = "https://doi.org/10.1111/j.1937-5956.1993.tb00094.x"
"""W. Whitt, "Approximations for the GI/G/m Queue", 1993: use times that vary more than Erlang's."""
HIKARICP: Final = "https://github.com/brettwooldridge/HikariCP/wiki/About-Pool-Sizing"
"""HikariCP, "About Pool Sizing": with fewer connections threads can wait for each other for ever."""
MAX_CONNECTIONS: Final = "https://www.postgresql.org/docs/current/runtime-config-connection.html"
"""PostgreSQL, `max_connections` and the connections it reserves; MySQL counts alike."""
POOLING: Final = "https://docs.sqlalchemy.org/en/20/core/pooling.html"
"""SQLAlchemy, "Connection Pooling": a checkout waits only while all connections are in use."""

_LARGEST_LOAD: Final = 100_000.0
"""Connections in use. No database has that many: more is a mistake in the units."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One number that a pool's size has to reach, or not to exceed."""

    name: str
    """`load`, `wait` and `deadlock` have to be reached, `threads` and `database` not to be exceeded.

    `deadlock` is there when a request holds more than one connection, the last two when their numbers were given.
    """
    connections: int
    formula: str
    """How `connections` comes about, with the numbers put in."""
    reason: str
    """The same as a sentence."""
    source: str
    """A link to where the formula comes from."""


@dataclass(frozen=True, slots=True)
class PoolSize:
    """A recommended size, and why. Times are seconds."""

    size: int
    """Connections that the pool of one process may have: `pool_size` and `max_overflow` together."""
    binding: Bound
    """The bound that settled the size."""
    reason: str
    """Why it is this size; where something holds it down, also what that costs."""
    bounds: tuple[Bound, ...]
    """Every bound that was looked at."""
    mean_in_use: float
    """Connections in use on average."""
    utilization: float
    """Share of the connections in use on average; 1 or more: the pool does not keep up."""
    slow_share: float
    """Share of the checkouts that wait longer than the target, from 0 to 1; 1 where the pool does not keep up."""
    mean_wait: float
    """Seconds that a checkout waits on average; infinite where the pool does not keep up."""


@dataclass(frozen=True, slots=True)
class _Load:
    """What the pool of one process has to serve, and how fast."""

    rate: float
    use_time: float
    variation: float
    wait_target: float

    @property
    def in_use(self) -> float:
        """Connections in use on average, by Little's law: arrivals a second times the seconds that each stays."""
        return self.rate * self.use_time

    def slow_share(self, size: int) -> float:
        """Share of the checkouts that wait longer than the target: those that wait, and are not through by then."""
        if size <= self.in_use:
            return 1.0
        return _erlang_c(size, self.in_use) * math.exp(-self.wait_target * self._drain_rate(size))

    def mean_wait(self, size: int) -> float:
        """Seconds that a checkout waits on average."""
        return math.inf if size <= self.in_use else _erlang_c(size, self.in_use) / self._drain_rate(size)

    def _drain_rate(self, size: int) -> float:
        """How many a second a queue shrinks by with all connections in use; less where use times vary (Whitt)."""
        return (size / self.use_time - self.rate) * 2 / (1 + max(1.0, self.variation) ** 2)


def recommend_pool_size(  # noqa: PLR0913 - by name only, and all but two have a default
    *,
    use_time: float,
    checkout_rate: float,
    headroom: float = 0.25,
    wait_target: float = 0.010,
    wait_share: float = 0.05,
    use_variation: float = 1.0,
    threads: int | None = None,
    held: int = 1,
    database_limit: int | None = None,
    reserved: int = 3,
    processes: int = 1,
) -> PoolSize:
    """Return how many connections the pool of one process needs, and which formula says so.

    - `use_time`: seconds that a checkout keeps its connection, on average. Who knows only a percentile gives that: the
      result is then on the safe side.
    - `checkout_rate`: checkouts a second in one process, while it is busiest.
    - `headroom`: how many more than are in use on average, as a share; with 0.25 the average stays at 80 % or under.
    - `wait_target`, `wait_share`: at most this share of the checkouts may wait longer than this many seconds.
    - `use_variation`: standard deviation of the use time divided by its mean; less than 1 counts as 1, the safe side.
    - `threads`: requests that one process works on at a time; None: any number, as with asyncio.
    - `held`: connections that one request holds at the same time, at most.
    - `database_limit`, `reserved`: the database's `max_connections`, and how many of these are not for such pools.
    - `processes`: processes that have such a pool, on all hosts together.

    A value that makes no sense raises a ValueError that names it.
    """
    for name, number in (("use_time", use_time), ("checkout_rate", checkout_rate)):
        _check(name, number, number > 0, "a number above 0")
    for name, number in (("headroom", headroom), ("wait_target", wait_target), ("use_variation", use_variation)):
        _check(name, number, number >= 0, "a number of 0 or more")
    _check("wait_share", wait_share, 0 < wait_share < 1, "a share between 0 and 1")
    load = _Load(checkout_rate, use_time, use_variation, wait_target)
    _check("use_time * checkout_rate", load.in_use, load.in_use <= _LARGEST_LOAD, "seconds, and checkouts a second")
    floors = [_by_load(load, headroom), _by_wait(load, wait_share)]
    ceilings = []
    _check_count("held", held, 1)
    if threads is not None:
        _check_count("threads", threads, 1)
        floors += [_by_deadlock(threads, held)] if held > 1 else []
        ceilings.append(_by_threads(threads, held))
    elif held > 1:
        raise ValueError(f"held={held}: needs threads as well, as any number of requests can wait for each other")
    if database_limit is not None:
        ceilings.append(_by_database(database_limit, reserved, processes))
    return _settle(load, floors, ceilings)


def _by_load(load: _Load, headroom: float) -> Bound:
    return Bound(
        "load",
        _round_up(load.in_use * (1 + headroom)),
        f"{load.rate:g}/s * {load.use_time:g} s * {1 + headroom:g}",
        f"{load.in_use:.3g} connections are in use on average, and {headroom:.0%} more are headroom",
        LITTLE,
    )


def _by_wait(load: _Load, share: float) -> Bound:
    size = _smallest(load, share)
    reason = f"with {size} {load.slow_share(size):.1%} of the checkouts wait longer than {load.wait_target:g} s"
    if size > 1:
        reason += f", with {size - 1} it would be {load.slow_share(size - 1):.1%}, and {share:.1%} is the limit"
    return Bound(
        "wait",
        size,
        f"smallest c with C(c, {load.in_use:.3g}) * exp(-{load.wait_target:g} s * drain rate) <= {share:g}",
        reason,
        ERLANG_C if load.variation <= 1 else WHITT,
    )


def _by_deadlock(threads: int, held: int) -> Bound:
    size = threads * (held - 1) + 1
    reason = f"with fewer than {size}, {threads} threads that hold {held} each can wait for each other for ever"
    return Bound("deadlock", size, f"{threads} * ({held} - 1) + 1", reason, HIKARICP)


def _by_threads(threads: int, held: int) -> Bound:
    reason = f"{threads} threads that hold {held} each never use more than {threads * held}"
    return Bound("threads", threads * held, f"{threads} * {held}", reason, POOLING)


def _by_database(limit: int, reserved: int, processes: int) -> Bound:
    _check_count("database_limit", limit, 1)
    _check_count("reserved", reserved, 0)
    _check_count("processes", processes, 1)
    size = (limit - reserved) // processes
    if size < 1:
        raise ValueError(
            f"database_limit={limit}: without the {reserved} reserved ones not one connection for each of "
            f"{processes} processes"
        )
    reason = f"the database leaves {size} to each of {processes} processes"
    return Bound("database", size, f"({limit} - {reserved}) / {processes}", reason, MAX_CONNECTIONS)


def _settle(load: _Load, floors: Sequence[Bound], ceilings: Sequence[Bound]) -> PoolSize:
    """Take the highest floor, or the lowest ceiling where that is lower."""
    needed = max(floors, key=lambda bound: bound.connections)
    held_down = [bound for bound in ceilings if bound.connections < needed.connections]
    binding = min(held_down, key=lambda bound: bound.connections, default=needed)
    size = binding.connections
    # Where every thread has its connections nobody waits, whatever a queue of any length would do.
    waits = not any(bound.name == "threads" and size >= bound.connections for bound in ceilings)
    slow_share = load.slow_share(size) if waits else 0.0
    return PoolSize(
        size=size,
        binding=binding,
        reason=_reason(binding, needed, floors, slow_share, load),
        bounds=(*floors, *ceilings),
        mean_in_use=load.in_use,
        utilization=load.in_use / size,
        slow_share=slow_share,
        mean_wait=load.mean_wait(size) if waits else 0.0,
    )


def _reason(binding: Bound, needed: Bound, floors: Sequence[Bound], slow_share: float, load: _Load) -> str:
    size = binding.connections
    told = f"{size} connections: {binding.reason}"
    if binding is needed:
        return f"{told}."
    told += f", without that limit it would be {needed.connections} ({needed.name})"
    if size < load.in_use:
        told += f"; {load.in_use:.3g} are asked for on average, so that requests queue up"
    elif slow_share >= 0.001:
        told += f"; {slow_share:.1%} of the checkouts wait longer than {load.wait_target:g} s"
    stuck = [bound.reason for bound in floors if bound.name == "deadlock" and bound.connections > size]
    return ". Danger: ".join([told, *stuck]) + "."


def _erlang_c(size: int, in_use: float) -> float:
    """Return the share of the arrivals that find all `size` connections in use, where `in_use` are on average."""
    blocked = 1.0  # Erlang B, by its recursion, which no factorial overflows
    for servers in range(1, size + 1):
        blocked = in_use * blocked / (servers + in_use * blocked)
    return blocked / (1 - in_use / size * (1 - blocked))


def _smallest(load: _Load, share: float) -> int:
    """Return the smallest size with which no more than `share` of the checkouts wait too long."""
    low = high = math.floor(load.in_use) + 1
    while load.slow_share(high) > share:
        high *= 2
    return low + bisect_left(range(low, high), True, key=lambda size: load.slow_share(size) <= share)


def _round_up(number: float) -> int:
    """Return the next whole number; 0.1 * 30 counts as 3, although it is 3.0000000000000004."""
    return max(1, math.ceil(round(number, 9)))


def _check(name: str, number: float, good: bool, expected: str) -> None:
    if not good or not math.isfinite(number):
        raise ValueError(f"{name}={number}: expected {expected}")


def _check_count(name: str, number: object, minimum: int) -> None:
    if not isinstance(number, int) or number < minimum:
        raise ValueError(f"{name}={number}: expected a whole number of {minimum} or more")
