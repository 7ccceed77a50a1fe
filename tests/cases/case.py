"""What a case is: a scenario, and the findings that it must and must not have."""

import dataclasses
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, TextClause, event, text
from sqlalchemy.orm import Session

from querywatch.findings import Finding, Kind, Severity, finding_id

TESTS: Final = Path(__file__).parents[1]
HERE: Final = "# <-- here"
"""Marks the line of a scenario that its findings must name."""
THE_LINE: Final = "????????????????@{here}"
"""The key of a statement at the marked line, whatever its fingerprint."""


@dataclass(frozen=True)
class Database:
    """What a scenario works with: the rows of `models.fill` behind an engine."""

    engine: Engine

    @contextmanager
    def session(self, **options: Any) -> Iterator[Session]:
        with Session(self.engine, **options) as session:
            yield session

    def sleep(self, seconds: float, then: str = "1") -> TextClause:
        """Return a SELECT that takes so many seconds and then computes `then` for a row of `author`."""
        function = "SLEEP" if self.engine.dialect.name in ("mysql", "mariadb") else "pg_sleep"
        return text(f"SELECT {function}({seconds}), {then} FROM author LIMIT 1")

    def failure(self) -> str:
        """Return an expression that fails when it is computed."""
        return "fail()" if self.engine.dialect.name == "sqlite" else "CAST(name AS INTEGER)"


def teach_sqlite_to_sleep(engine: Engine) -> None:
    """Give SQLite what PostgreSQL has: `pg_sleep`, and a function that fails."""

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: object) -> None:
        connection.create_function("pg_sleep", 1, time.sleep)
        connection.create_function("fail", 0, lambda: 1 / 0)


Scenario = Callable[[Any], Any]
"""Takes a `Database`, or an `AsyncDatabase` and is a coroutine function then."""
Decorator = Callable[[Scenario], Scenario]


@dataclass(frozen=True)
class Expected:
    """One finding. `key` and `advice` may hold `*`; `{here}` in a key is the place of the marked line.

    `distinct` is as large as `count` when it is not given. `place` is where the finding points, when that is not the
    marked line (a template); `anywhere` where there is no line.
    """

    kind: Kind
    key: str
    count: int
    advice: str
    distinct: int | None = None
    severity: Severity = Severity.WARNING
    place: str = "{here}"

    def misses(self, found: Finding, here: str) -> list[str]:
        """Return what `found` has that differs from this."""
        place = "" if found.callsite is None else found.callsite.place
        wanted = {
            "kind": (found.kind.value, self.kind.value),
            "key": (found.key, self.key.format(here=here)),
            "count": (str(found.count), str(self.count)),
            "distinct": (str(found.distinct), str(self.count if self.distinct is None else self.distinct)),
            "severity": (found.severity.value, self.severity.value),
            "place": (place, self.place.format(here=here)),
            "advice": (found.advice, f"*{self.advice}*"),
            "id": (found.id, finding_id(self.kind, found.key)),
        }
        return [f"{name}: {have!r} is not {want!r}" for name, (have, want) in wanted.items() if not _like(have, want)]


def _like(have: str, want: str) -> bool:
    return fnmatchcase(have, want.replace("[", "[[]"))


@dataclass(frozen=True)
class Case:
    """A scenario and all findings it has; `settings` differ from the defaults, `queries` is the number it sends."""

    scenario: Scenario
    expected: tuple[Expected, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    queries: int | None = None

    @property
    def name(self) -> str:
        return self.scenario.__name__

    @property
    def here(self) -> str:
        """`cases/loads.py:12`: the line of the scenario with the marker."""
        lines, first = inspect.getsourcelines(self.scenario)
        marked = [first + n for n, line in enumerate(lines) if HERE in line]
        path = Path(inspect.getfile(self.scenario)).relative_to(TESTS)
        return f"{path.as_posix()}:{marked[0]}" if marked else "no line is marked"

    def problems(self, findings: list[Finding]) -> list[str]:
        """Compare `findings` with what is expected; nothing more and nothing less."""
        problems = []
        left = list(findings)
        for expected in self.expected:
            misses = sorted(((expected.misses(found, self.here), found) for found in left), key=lambda m: len(m[0]))
            if not misses:
                problems.append(f"missing: {expected}")
                continue
            problems += misses[0][0]
            left.remove(misses[0][1])
        return problems + [f"one too many: {found}" for found in left]


@dataclass
class Table:
    """The cases of one module, in the order of its scenarios."""

    cases: list[Case] = field(default_factory=list)

    def finds(self, *expected: Expected, queries: int | None = None, **settings: Any) -> Decorator:
        """Add the decorated scenario, which has exactly these findings."""

        def add(scenario: Scenario) -> Scenario:
            self.cases.append(Case(scenario, expected, settings, queries))
            return scenario

        return add

    def clean(self, *, queries: int | None = None, **settings: Any) -> Decorator:
        """Add the decorated scenario, which has no finding, even if two runs were enough for an N+1."""
        return self.finds(queries=queries, **{"n_plus_one_threshold": 2} | settings)


def n_plus_one(key: str, count: int, advice: str, **more: Any) -> Expected:
    return Expected(Kind.N_PLUS_ONE, key, count, advice, **more)


def redundant(key: str, count: int, advice: str, **more: Any) -> Expected:
    return Expected(Kind.REDUNDANT_QUERY, key, count, advice, **{"distinct": 1} | more)


def slow(key: str, count: int, advice: str, **more: Any) -> Expected:
    return Expected(Kind.SLOW_QUERY, key, count, advice, **more)


def critical(expected: Expected) -> Expected:
    return dataclasses.replace(expected, severity=Severity.CRITICAL)
