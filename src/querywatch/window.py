"""The request window: what one request has done so far, in bounded memory.

A window keeps no parameter values, only hashes of them, and no more groups than a cap: the rest is counted.
"""

import enum
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from querywatch.callsite import Callsite
from querywatch.settings import Settings
from querywatch.sql import Statement

MAX_GROUPS: Final = 512
#: Parents or parameter sets a group tells apart; `Group.distinct` stays at this number when there were more.
MAX_SUBJECTS: Final = 1024


class Cause(enum.StrEnum):
    """Why the ORM sent a query that the application did not write; it decides the advice."""

    COLLECTION = "collection"
    SCALAR = "scalar"
    DEFERRED = "deferred"
    SUBCLASS = "subclass"
    EXPIRED = "expired"
    COMPUTED = "computed"
    REFRESHED = "refreshed"


class Load(NamedTuple):
    """An implicit ORM load: `name` is `Author.books`, `Author.bio` or `Author`, `subject` hashes the instance."""

    cause: Cause
    name: str
    subject: int

    @property
    def is_relationship(self) -> bool:
        """Whether a relationship is loaded, not columns."""
        return self.cause is Cause.COLLECTION or self.cause is Cause.SCALAR


class Query(NamedTuple):
    """One cursor execution. `duration` is seconds.

    `subject` hashes the parent, the instance or the parameter set; `condition` the same without the values that move
    with a page or list a batch. `load` is the ORM load it belongs to, `flush` the unit of work.
    """

    statement: Statement
    duration: float
    subject: int
    condition: int
    load: Load | None = None
    callsite: Callsite | None = None
    executemany: bool = False
    flush: Any = None

    @property
    def place(self) -> str:
        """`<fingerprint>@<file>:<line>`, or the fingerprint alone where no line of the application is known."""
        fingerprint = self.statement.fingerprint
        return fingerprint if self.callsite is None else f"{fingerprint}@{self.callsite.place}"

    @property
    def key(self) -> str | None:
        """The most precise key: what the ORM loads, else the place; None for a write of many rows at once."""
        if self.load is not None:
            return self.load.name
        return None if self.executemany and self.statement.is_write else self.place


class Group:
    """Queries of one request with one key."""

    __slots__ = (
        *("_flush", "callsite", "conditions", "duration", "first", "ignored", "key", "load", "most", "runs"),
        *("statement", "subjects"),
    )

    def __init__(self, key: str, query: Query) -> None:
        self.key = key
        self.statement = query.statement
        self.load = query.load
        self.callsite = query.callsite
        self.runs = 0
        #: Seconds: all runs, and the first one.
        self.duration = 0.0
        self.first = query.duration
        #: Runs by subject; `most` is the largest of them.
        self.subjects: dict[int, int] = {}
        self.most = 0
        self.conditions: set[int] = set()
        #: Whether the settings ignore this group; None until somebody asked.
        self.ignored: bool | None = None
        self._flush: Callable[[], object] = _no_flush

    @property
    def distinct(self) -> int:
        """Distinct parents, instances or parameter sets; those that differ only in the page or the batch count once."""
        return len(self.conditions)

    @property
    def wasted(self) -> float:
        """Seconds of all runs but the first."""
        return self.duration - self.first

    def add(self, query: Query) -> None:
        """Count one run; a unit-of-work flush counts once, however many rows it writes."""
        self.duration += query.duration
        if query.flush is not None and self._flush() is query.flush:
            return
        self._flush = _no_flush if query.flush is None else weakref.ref(query.flush)
        self.runs += 1
        if self.callsite is None:
            self.callsite = query.callsite
        if query.subject in self.subjects or len(self.subjects) < MAX_SUBJECTS:
            times = self.subjects[query.subject] = self.subjects.get(query.subject, 0) + 1
            self.most = max(self.most, times)
        if len(self.conditions) < MAX_SUBJECTS:
            self.conditions.add(query.condition)


class SlowRuns:
    """The runs over the slow threshold of one statement at one line. Times are seconds."""

    __slots__ = ("callsite", "duration", "longest", "runs", "statement", "subjects")

    def __init__(self, query: Query) -> None:
        self.statement = query.statement
        self.callsite = query.callsite
        self.runs = 0
        self.duration = 0.0
        self.longest = 0.0
        self.subjects: set[int] = set()

    def add(self, query: Query) -> None:
        """Count one slow run."""
        self.runs += 1
        self.duration += query.duration
        self.longest = max(self.longest, query.duration)
        if len(self.subjects) < MAX_SUBJECTS:
            self.subjects.add(query.subject)


class Window:
    """One request: its totals, its groups of repeated queries, its slow queries. Safe for threads.

    `queries` counts all queries, `duration` is their sum in seconds, `excess` that of the queries beyond the maximum.
    `route` and `callsite` (of the view) are known once the framework has found them.
    """

    def __init__(self, settings: Settings) -> None:
        self._lock = threading.Lock()
        self.settings = settings
        self.is_open = True
        self.queries = 0
        self.duration = 0.0
        self.excess = 0.0
        self.groups: dict[str, Group] = {}
        self.slow: dict[str, SlowRuns] = {}
        self.route: str | None = None
        self.callsite: Callsite | None = None

    def add(self, query: Query, *, slow: bool) -> Group | None:
        """Count `query` and return its group; None for a bulk write, a closed window, and beyond the cap of groups."""
        with self._lock:
            if not self.is_open:
                return None
            self.queries += 1
            self.duration += query.duration
            if self.queries > self.settings.max_queries_per_request:
                self.excess += query.duration
            if slow:
                self._add_slow(query)
            return self._add_to_group(query)

    def has_seen(self, load: Load) -> bool:
        """Tell whether an earlier query of this request loaded the same."""
        return load.name in self.groups

    def close(self) -> None:
        """Count nothing from here on: what still runs in the request's context is no longer part of it."""
        with self._lock:
            self.is_open = False

    def _add_slow(self, query: Query) -> None:
        runs = self.slow.get(query.place)
        if runs is None:
            if len(self.slow) >= MAX_GROUPS:
                return
            runs = self.slow[query.place] = SlowRuns(query)
        runs.add(query)

    def _add_to_group(self, query: Query) -> Group | None:
        key = query.key
        if key is None:
            return None
        group = self.groups.get(key)
        if group is None:
            if len(self.groups) >= MAX_GROUPS:
                return None
            group = self.groups[key] = Group(key, query)
        group.add(query)
        return group


def _no_flush() -> None:
    """Stand in for a weak reference where no flush was seen."""
