"""The request window: what it counts, and that its memory has an end."""

import gc
import sys
import threading
import tracemalloc
import weakref

import pytest
from sqlalchemy import create_engine, text

from querywatch import callsite, sql, testing
from querywatch.callsite import Callsite
from querywatch.settings import Settings
from querywatch.window import MAX_GROUPS, MAX_SUBJECTS, Cause, Load, Query, Window

SELECT = sql.analyse("SELECT a FROM t WHERE id = ?")
INSERT = sql.analyse("INSERT INTO t (a) VALUES (?)")
LINE = Callsite("/app/views.py", 7, "views.show", "views.py:7")


def query(
    subject: int = 1, *, statement: sql.Statement = SELECT, duration: float = 0.001, line: Callsite | None = LINE
) -> Query:
    return Query(statement, duration, subject, subject, None, line)


def test_totals_are_those_of_all_queries() -> None:
    window = Window(Settings(max_queries_per_request=2))
    for duration in (1.0, 2.0, 4.0, 8.0):
        window.add(query(duration=duration), slow=False)
    assert (window.queries, window.duration, window.excess) == (4, 15.0, 12.0)


def test_a_group_tells_runs_from_distinct_parameters() -> None:
    window = Window(Settings())
    for subject in (1, 2, 1, 1):
        group = window.add(query(subject), slow=False)
    assert group is not None
    assert (group.runs, group.distinct, group.most) == (4, 2, 3)
    assert group.wasted == pytest.approx(0.003)


def test_the_same_statement_at_another_line_is_another_group() -> None:
    window = Window(Settings())
    window.add(query(), slow=False)
    window.add(query(line=Callsite("/app/views.py", 8, "views.show", "views.py:8")), slow=False)
    window.add(query(line=None), slow=False)
    assert list(window.groups) == [
        f"{SELECT.fingerprint}@views.py:7",
        f"{SELECT.fingerprint}@views.py:8",
        SELECT.fingerprint,
    ]


def test_an_orm_load_is_one_group_whatever_its_line() -> None:
    window = Window(Settings())
    load = Load(Cause.COLLECTION, "Author.books", 1)
    assert not window.has_seen(load)
    for line in (None, LINE):
        group = window.add(Query(SELECT, 0.0, 1, 1, load, line), slow=False)
    assert window.has_seen(load)
    assert group is not None
    assert (group.key, group.runs, group.callsite) == ("Author.books", 2, LINE)


def test_an_executemany_counts_as_a_query_and_is_no_group() -> None:
    window = Window(Settings())
    assert window.add(Query(INSERT, 0.001, 0, 0, None, LINE, executemany=True), slow=False) is None
    assert (window.queries, window.groups) == (1, {})


class Flush:
    """Stands in for a unit of work."""


def test_a_flush_counts_once_and_is_not_kept_alive() -> None:
    window = Window(Settings())
    first, second = Flush(), Flush()
    for flush in (first, first, first, second, second):
        group = window.add(Query(INSERT, 0.001, 1, 1, None, LINE, False, flush), slow=False)
    assert group is not None
    assert group.runs == 2
    gone = weakref.ref(second)
    del first, second, flush
    gc.collect()
    assert gone() is None


def test_a_closed_window_counts_nothing() -> None:
    window = Window(Settings())
    window.close()
    assert window.add(query(), slow=True) is None
    assert (window.queries, window.groups, window.slow) == (0, {}, {})


def test_eight_threads_lose_no_query() -> None:
    window = Window(Settings())
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=add_many, args=(window,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    (group,) = window.groups.values()
    assert (window.queries, group.runs, group.distinct, group.most) == (16_000, 16_000, 10, 1_600)


def add_many(window: Window) -> None:
    for n in range(2_000):
        window.add(query(n % 10), slow=False)


def test_100000_queries_of_one_loop_take_bounded_memory() -> None:
    """A group tells a number of parents apart; all runs are counted."""
    window = Window(Settings())
    assert grown(window, [query(n) for n in range(100_000)]) < 400_000
    (group,) = window.groups.values()
    assert (window.queries, group.runs, group.distinct) == (100_000, 100_000, MAX_SUBJECTS)


def test_100000_different_statements_take_bounded_memory() -> None:
    """The groups beyond the cap are counted, not kept."""
    window = Window(Settings())
    lines = [Callsite("/app/views.py", n, "views.show", f"views.py:{n}") for n in range(100_000)]
    assert grown(window, [query(line=line) for line in lines]) < 2_000_000
    assert (window.queries, len(window.groups), len(window.slow)) == (100_000, MAX_GROUPS, MAX_GROUPS)


def grown(window: Window, queries: list[Query]) -> int:
    """Return the bytes by which `window` has grown."""
    tracemalloc.start()
    try:
        for one in queries:
            window.add(one, slow=True)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_request_of_3000_statements_on_a_real_engine_takes_bounded_memory() -> None:
    engine = create_engine("sqlite://")
    statement = text("SELECT :n")
    with engine.connect() as connection, testing.watch() as watched:
        for n in range(3_100):
            if n == 100:  # by now everything is cached that will be
                tracemalloc.start()
            connection.execute(statement, {"n": n})
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    engine.dispose()
    assert watched.queries == 3_100
    assert [finding.count for finding in watched.findings if finding.kind == "n_plus_one"] == [3_100]
    assert grown < 1_000_000


def test_a_process_with_ever_new_lines_keeps_a_bounded_number_of_them() -> None:
    for n in range(callsite._MAX_CACHED + 1_000):
        exec(compile("\n" * (n + 1) + "find()", f"/app/made_{n}.py", "exec"), {"find": callsite.find})
    assert len(callsite._callsites) <= callsite._MAX_CACHED
    assert len(callsite._kinds) <= callsite._MAX_CACHED
