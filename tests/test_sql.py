"""What is read from a statement's text: fingerprint, roles of values, verb; summary and text: test_sql_text.py."""

import gc
import random
import tracemalloc
from typing import Any

import pytest

from querywatch import sql
from querywatch.sql import Statement, analyse


def fingerprint(statement: object, dialect: str = "") -> str:
    return analyse(statement, dialect).fingerprint


SAME = [
    # what differs, one statement, another one, dialect
    ("numbers", "SELECT a FROM t WHERE id = 1", "SELECT a FROM t WHERE id = 2", ""),
    ("negative numbers", "SELECT a FROM t WHERE id = 1", "SELECT a FROM t WHERE id = -1", ""),
    ("decimals and exponents", "SELECT a FROM t WHERE x > 1.5", "SELECT a FROM t WHERE x > .5e-3", ""),
    ("strings", "SELECT a FROM t WHERE n = 'x'", "SELECT a FROM t WHERE n = 'it''s'", ""),
    ("an empty string", "SELECT a FROM t WHERE n = 'x'", "SELECT a FROM t WHERE n = ''", ""),
    ("a comment sign in a string", "SELECT a FROM t WHERE n = 'x'", "SELECT a FROM t WHERE n = '-- /*'", ""),
    ("literal or parameter", "SELECT a FROM t WHERE id = 1", "SELECT a FROM t WHERE id = :id", ""),
    ("paramstyles", "SELECT a FROM t WHERE id = ? AND b = ?", "SELECT a FROM t WHERE id = %(x)s AND b = $2", ""),
    ("casts of parameters", "SELECT a FROM t WHERE id = ?", "SELECT a FROM t WHERE id = %(id_1)s::INTEGER", ""),
    ("casts with a length", "SELECT a FROM t WHERE n = ?", "SELECT a FROM t WHERE n = $1::VARCHAR(20)", ""),
    ("IN-list length", "SELECT a FROM t WHERE id IN (1)", "SELECT a FROM t WHERE id IN (1, 2, 3)", ""),
    ("IN list of casts", "SELECT a FROM t WHERE id IN (?)", "SELECT a FROM t WHERE id IN (%(a)s::INT, %(b)s::INT)", ""),
    ("IN-list template", "SELECT a FROM t WHERE id IN (?)", "SELECT a FROM t WHERE id IN (__[POSTCOMPILE_id_1])", ""),
    (
        "IN list of tuples",
        "SELECT a FROM t WHERE (a, b) IN ((1, 2))",
        "SELECT a FROM t WHERE (a, b) IN ((3, 4), (5, 6))",
        "",
    ),
    (
        "ANY array",
        "SELECT a FROM t WHERE id = ANY(ARRAY[1])",
        "SELECT a FROM t WHERE id = ANY(ARRAY[1, 2])",
        "postgresql",
    ),
    ("rows of VALUES", "INSERT INTO t (a, b) VALUES (1, 'x')", "INSERT INTO t (a, b) VALUES (2, 'y'), (3, 'z')", ""),
    ("rows with functions", "INSERT INTO t VALUES (1, now())", "INSERT INTO t VALUES (1, now()), (2, now())", ""),
    ("comments", "SELECT a FROM t", "/* route=x */ SELECT a -- why\nFROM t /* trace='00-1' */", ""),
    ("white space", "SELECT a FROM t", "  SELECT\n\ta\r\n FROM   t ", ""),
    ("an open comment", "SELECT a FROM t ", "SELECT a FROM t /* never closed", ""),
    ("dollar quotes", "SELECT a FROM t WHERE n = 'x'", "SELECT a FROM t WHERE n = $q$it's$q$", "postgresql"),
    ("E strings", r"SELECT a FROM t WHERE n = E'\'x'", "SELECT a FROM t WHERE n = 'x'", "postgresql"),
    (
        "backslashes in MySQL",
        r"SELECT a FROM t WHERE n = 'it\'s' AND b = 1",
        "SELECT a FROM t WHERE n = 'x' AND b = 1",
        "mysql",
    ),
    ("double quotes in MySQL", 'SELECT a FROM t WHERE n = "x\\"y"', "SELECT a FROM t WHERE n = 'z'", "mysql"),
    ("hash comments in MySQL", "SELECT a # why\nFROM t", "SELECT a FROM t", "mysql"),
    ("N strings in SQL Server", "SELECT a FROM t WHERE n = N'x'", "SELECT a FROM t WHERE n = 'y'", "mssql"),
    ("bytes", b"SELECT a FROM t WHERE id = 1", "SELECT a FROM t WHERE id = 2", ""),
]

OTHER = [
    ("table", "SELECT a FROM t", "SELECT a FROM u", ""),
    ("column", "SELECT a FROM t", "SELECT b FROM t", ""),
    ("operator", "SELECT a FROM t WHERE x > 1", "SELECT a FROM t WHERE x < 1", ""),
    ("minus or comma", "SELECT a - 1 FROM t", "SELECT a , 1 FROM t", ""),
    ("a condition more", "SELECT a FROM t WHERE x = 1", "SELECT a FROM t WHERE x = 1 AND y = 1", ""),
    ("NULL or a value", "SELECT a FROM t WHERE x IS NULL", "SELECT a FROM t WHERE x IS 1", ""),
    ("quoted names", 'SELECT "a" FROM t', 'SELECT "b" FROM t', ""),
    ("quoted names in MySQL", "SELECT `a` FROM t", "SELECT `b` FROM t", "mysql"),
    ("names in double quotes", 'SELECT a FROM t WHERE n = "x"', 'SELECT a FROM t WHERE n = "y"', "sqlite"),
    ("list or single value", "SELECT a FROM t WHERE x IN (1)", "SELECT a FROM t WHERE x = 1", ""),
    ("columns of VALUES", "INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 2, 3)", ""),
    ("arguments of a function", "SELECT f(1, 2) FROM t", "SELECT f(1) FROM t", ""),
]


@pytest.mark.parametrize(("one", "other", "dialect"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_a_fingerprint_is_equal_where_only_these_differ(one: object, other: object, dialect: str) -> None:
    assert fingerprint(one, dialect) == fingerprint(other, dialect)


@pytest.mark.parametrize(("one", "other", "dialect"), [row[1:] for row in OTHER], ids=[row[0] for row in OTHER])
def test_a_fingerprint_tells_statements_apart(one: str, other: str, dialect: str) -> None:
    assert fingerprint(one, dialect) != fingerprint(other, dialect)


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    assert fingerprint("SELECT a FROM t WHERE id = 1") == "4ca1310a97005db2"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


BAD = [
    *("", " ", ";", "'", '"', "`", "$$", "$x$", "/*", "--", "(", ")", "()", "((((", "))))", "::", ":", "%", "%(", "@"),
    *("SELECT", "SELECT 'open", 'SELECT "open', "SELECT $q$open", "INSERT INTO", "UPDATE", "DELETE FROM", "WITH"),
    *("WITH x AS", "FROM", "JOIN", "VALUES", "IN (", "LIMIT ?", "LIMIT ?, ?", "OFFSET", "? = ", "= ?", "?", "\x00"),
    *("CREATE", "CREATE TABLE", "DROP INDEX IF EXISTS", "SELECT 😀 FROM 🐘", "SELECT \ud800", "héllo wörld"),
    *(b"\xff\xfe", b"", None, 0, object(), Unprintable(), ["SELECT 1"], ("SELECT", "%s")),
]


@pytest.mark.parametrize("dialect", ["", "postgresql", "mysql", "mssql", "oracle"])
@pytest.mark.parametrize("statement", BAD, ids=lambda bad: repr(bad)[:20])
def test_what_is_no_sql_has_a_fingerprint_all_the_same(statement: object, dialect: str) -> None:
    assert len(fingerprint(statement, dialect)) == 16


def test_random_text_has_a_fingerprint_and_hides_its_literals() -> None:
    """2,000 texts put together from pieces that mean something to the tokeniser, every quote of them closed."""
    words = "SELECT FROM t WHERE ( ) , $1 ? %s IN VALUES ::int :x - 1.5 LIMIT OFFSET JOIN ON UNION AS . [ ] = WITH \n"
    pieces = [*words.split(" "), "'secret'", "'it''s secret'", "E'secret'", "N'secret'", "-- secret\n", "/* secret */"]
    chance = random.Random(4)
    for _ in range(2_000):
        text = " ".join(chance.choices(pieces, k=chance.randint(1, 25)))
        for dialect in ("", "postgresql", "mysql"):
            statement = analyse(text, dialect)
            assert len(statement.fingerprint) == 16
            assert len(statement.summary) <= 255
            assert "secret" not in statement.text, text


HUGE = [
    "SELECT a FROM t WHERE id IN (" + ", ".join(map(str, range(1_500_000))) + ")",
    "INSERT INTO t (a, b) VALUES " + ", ".join(["(1, 'some words')"] * 600_000),
    "SELECT " + "(" * 10_000_000,
    "SELECT '" + "x" * 10_000_000,
    "SELECT " + "a " * 5_000_000,
    "-- " + "x" * 10_000_000,
    "x" * 10_000_000,
    "9" * 10_000_000,
    ", " * 5_000_000,
    "'a', " * 2_000_000 + "'",
]


@pytest.mark.parametrize("statement", HUGE, ids=lambda huge: huge[:30])
def test_a_statement_of_ten_megabytes_is_analysed_in_little_memory(statement: str) -> None:
    assert len(statement) > 9_000_000
    tracemalloc.start()
    try:
        analysed = analyse(statement)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(analysed.fingerprint) == 16
    assert len(analysed.text) <= sql.MAX_ANALYSED
    assert peak < 60_000_000


def test_huge_statements_that_differ_in_a_list_have_one_fingerprint() -> None:
    one, other = (
        "SELECT a FROM t WHERE id IN (" + ", ".join(map(str, range(n))) + ") AND b = 1" for n in (9_000, 90_000)
    )
    assert fingerprint(one) == fingerprint(other) == fingerprint("SELECT a FROM t WHERE id IN (1) AND b = 1")


def test_a_process_that_sees_ever_new_statements_keeps_a_bounded_number() -> None:
    for n in range(20_000):
        analyse(f"SELECT c{n} FROM t{n}")
    assert sum(type(kept) is Statement for kept in gc.get_objects()) < 5_000


def condition(statement: str, *values: Any) -> int:
    return analyse(statement).roles.condition(values)


MOVES = [
    # The values of two runs: those of a page or a batch.
    ("SELECT a FROM t LIMIT ? OFFSET ?", (10, 0), (10, 10)),
    ("SELECT a FROM t LIMIT ?, ?", (0, 10), (10, 10)),
    ("SELECT a FROM t ORDER BY a OFFSET ? ROWS FETCH NEXT ? ROWS ONLY", (0, 10), (10, 10)),
    ("SELECT a FROM t WHERE id > ? ORDER BY id LIMIT ?", (0, 10), (99, 10)),
    ("SELECT a FROM t WHERE id < ? ORDER BY id DESC LIMIT 10", (50,), (40,)),
    ("SELECT a FROM t WHERE ? < id ORDER BY id LIMIT 10", (50,), (60,)),
    ("SELECT a FROM t WHERE (made, id) > (?, ?) ORDER BY made, id LIMIT 10", (1, 2), (3, 4)),
    ("SELECT a FROM t WHERE made > ? OR (made = ? AND id > ?) ORDER BY made, id LIMIT 10", (1, 1, 5), (2, 2, 6)),
    ("SELECT a FROM t WHERE b = ? AND id > ? ORDER BY id LIMIT 10", (7, 1), (7, 2)),
    ("SELECT a FROM t WHERE id IN (?, ?, ?)", (1, 2, 3), (4, 5, 6)),
    ("SELECT a FROM t WHERE id = ANY(?)", ([1, 2, 3],), ([4, 5, 6, 7],)),
    ("SELECT a FROM t WHERE (a, b) IN ((?, ?), (?, ?))", (1, 2, 3, 4), (5, 6, 7, 8)),
]

CHANGES = [
    # The values of two runs of a loop.
    ("SELECT a FROM t WHERE b = ?", (1,), (2,)),
    ("SELECT a FROM t WHERE b = ? LIMIT ? OFFSET ?", (1, 10, 0), (2, 10, 0)),
    ("SELECT a FROM t WHERE b = ? AND id > ? ORDER BY id LIMIT 10", (7, 1), (8, 1)),
    ("SELECT a FROM t WHERE id > ? ORDER BY id LIMIT 1", (1,), (2,)),
    ("SELECT a FROM t WHERE id > ? ORDER BY id LIMIT ?", (1, 1), (2, 1)),
    ("SELECT a FROM t WHERE id > ? LIMIT 10", (1,), (2,)),
    ("SELECT a FROM t WHERE id > ?", (1,), (2,)),
    ("SELECT a FROM t WHERE id IN (?)", (1,), (2,)),
    ("SELECT a FROM t WHERE id IN (?, ?)", (1, 2), (3, 4)),
    ("SELECT a FROM t WHERE id = ANY(?)", ([1, 2],), ([3, 4],)),
    ("SELECT a FROM t WHERE b = ? AND c IN (?, ?, ?)", (1, 7, 8, 9), (2, 7, 8, 9)),
    ("SELECT a FROM t WHERE id IN (SELECT id FROM u WHERE x = ?)", (1,), (2,)),
]


@pytest.mark.parametrize(("statement", "one", "other"), MOVES)
def test_pages_and_batches_keep_the_condition(statement: str, one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert condition(statement, *one) == condition(statement, *other)


@pytest.mark.parametrize(("statement", "one", "other"), CHANGES)
def test_loops_change_the_condition(statement: str, one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert condition(statement, *one) != condition(statement, *other)


NO_QUERIES = [
    *(
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "ROLLBACK TO SAVEPOINT a",
    ),
    *("START TRANSACTION READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "PRAGMA foreign_keys = ON"),
    *("SET SESSION TRANSACTION READ ONLY", "SHOW VARIABLES LIKE 'x'", "DESCRIBE t", "SHOW CREATE TABLE `t`"),
    "SELECT name FROM sqlite_master WHERE type = 'table'",
    'SELECT name FROM "main".sqlite_master',
    "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
    "SELECT table_name FROM information_schema.tables",
]
QUERIES = [
    *("SELECT 1", "SELECT a FROM t", "INSERT INTO t VALUES (1)", "WITH x AS (SELECT 1) SELECT * FROM x", "CALL f()"),
    *("CREATE TABLE t (a INT)", "SET x = 1", "(SELECT a FROM t) UNION (SELECT a FROM u)", "EXPLAIN SELECT 1", ""),
    "SELECT t.a FROM t JOIN information_schema.tables ON true",
    "SELECT a FROM system_settings",
]


@pytest.mark.parametrize("statement", NO_QUERIES)
def test_transactions_and_catalogues_are_no_queries(statement: str) -> None:
    assert not analyse(statement).is_query


@pytest.mark.parametrize("statement", QUERIES)
def test_everything_else_is_a_query(statement: str) -> None:
    assert analyse(statement).is_query


WRITES = [
    ("INSERT INTO t VALUES (1)", "INSERT", True),
    ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "INSERT", True),
    ("WITH x AS (DELETE FROM t RETURNING id) SELECT * FROM x", "SELECT", False),
    ("update t set a = 1", "UPDATE", True),
    ("MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DELETE", "MERGE", True),
    ("SELECT a FROM t FOR UPDATE", "SELECT", False),
]


@pytest.mark.parametrize(("statement", "verb", "is_write"), WRITES)
def test_the_verb_is_that_of_the_main_statement(statement: str, verb: str, is_write: bool) -> None:
    analysed: Statement = analyse(statement)
    assert (analysed.verb, analysed.is_write) == (verb, is_write)


@pytest.mark.parametrize(
    ("statement", "many"),
    [
        ("INSERT INTO t (a) VALUES (?)", False),
        ("INSERT INTO t (a, b) VALUES (?, now())", False),
        ("INSERT INTO t (a) VALUES (?), (?)", True),
        ("INSERT INTO t (a) SELECT a FROM u", False),
        ("INSERT INTO t (a) VALUES " + ", ".join(["(?)"] * 20_000), True),
    ],
    ids=lambda value: str(value)[:40],
)
def test_several_rows_in_one_insert_are_told_from_one(statement: str, many: bool) -> None:
    assert analyse(statement).inserts_many is many
