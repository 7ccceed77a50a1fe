"""What of a statement is exported: its summary, and its text without literals."""

import pytest

from querywatch.sql import analyse

SUMMARIES = [
    # The examples of https://opentelemetry.io/docs/specs/semconv/database/database-spans/
    ("SELECT * FROM wuser_table WHERE username = ?", "SELECT wuser_table"),
    (
        "INSERT INTO shipping_details (order_id, address) SELECT order_id, address FROM orders WHERE order_id = ?",
        "INSERT shipping_details SELECT orders",
    ),
    ("SELECT * FROM songs, artists WHERE songs.artist_id == artists.id", "SELECT songs artists"),
    (
        "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
        "SELECT SELECT orders customers",
    ),
    ('SELECT * FROM "song list", artists', 'SELECT "song list" artists'),
    # Our own
    ("select a from b", "SELECT b"),
    ('SELECT "a"."id" FROM "public"."authors" AS "a"', "SELECT public.authors"),
    ("SELECT a FROM b LEFT OUTER JOIN c ON b.id = c.id JOIN d USING (id)", "SELECT b c d"),
    ("SELECT a FROM b WHERE id IN (SELECT id FROM c)", "SELECT b SELECT c"),
    ("SELECT a FROM b UNION ALL SELECT a FROM c", "SELECT b SELECT c"),
    ("SELECT EXTRACT(year FROM made) FROM orders", "SELECT orders"),
    ("SELECT a FROM b WHERE x IS DISTINCT FROM y", "SELECT b"),
    ("SELECT a FROM b FOR UPDATE", "SELECT b"),
    ("SELECT a FROM b FOR UPDATE SKIP LOCKED", "SELECT b"),
    ("SELECT 1", "SELECT"),
    ("WITH x AS (SELECT a FROM b) SELECT a FROM x JOIN c ON x.a = c.a", "SELECT b SELECT c"),
    ("WITH RECURSIVE tree (id) AS (SELECT id FROM b) SELECT id FROM tree", "SELECT b SELECT"),
    ("INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET a = 1 RETURNING id", "INSERT t"),
    ("INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE a = 1", "INSERT t"),
    ("UPDATE t SET a = ? WHERE id = ?", "UPDATE t"),
    ("UPDATE ONLY t SET a = ?", "UPDATE t"),
    ("DELETE FROM t WHERE id = ?", "DELETE t"),
    ("REPLACE INTO t VALUES (?)", "REPLACE t"),
    ("SELECT REPLACE(a, 'x', 'y') FROM t", "SELECT t"),
    ("CREATE TABLE IF NOT EXISTS t (a INT)", "CREATE TABLE t"),
    ("CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX i"),
    ("DROP TABLE t", "DROP TABLE t"),
    ("BEGIN", "BEGIN"),
    ("SAVEPOINT sa_savepoint_1", "SAVEPOINT"),
    ("CALL refresh_all(?)", "CALL"),
    ("/* hello */ SELECT a FROM b", "SELECT b"),
    ("", ""),
]


@pytest.mark.parametrize(("statement", "expected"), SUMMARIES)
def test_the_summary_has_operations_and_tables_in_order(statement: str, expected: str) -> None:
    assert analyse(statement).summary == expected


def test_a_summary_is_cut_between_words_at_255_characters() -> None:
    summary = analyse("SELECT a FROM " + ", ".join(f"table_number_{n}" for n in range(100))).summary
    assert 230 < len(summary) <= 255
    assert all(word == "SELECT" or word.startswith("table_number_") for word in summary.split())


SECRET = "hunter2"

LITERALS = [
    (f"SELECT a FROM t WHERE n = '{SECRET}'", "SELECT a FROM t WHERE n = ?", ""),
    (f"SELECT a FROM t WHERE n = 'it''s {SECRET}' AND b = ?", "SELECT a FROM t WHERE n = ? AND b = ?", ""),
    (f"SELECT a FROM t WHERE n = E'\\'{SECRET}'", "SELECT a FROM t WHERE n = ?", "postgresql"),
    (f"SELECT a FROM t WHERE n = $tag${SECRET}$$'$tag$", "SELECT a FROM t WHERE n = ?", "postgresql"),
    (f"SELECT a FROM t WHERE n = $${SECRET}$$ AND b = 1", "SELECT a FROM t WHERE n = ? AND b = ?", "postgresql"),
    (f"SELECT a FROM t WHERE n = U&'{SECRET}'", "SELECT a FROM t WHERE n = ?", "postgresql"),
    (f"SELECT a FROM t WHERE n = 'a\\'{SECRET}'", "SELECT a FROM t WHERE n = ?", "mysql"),
    (f'SELECT a FROM t WHERE n = "{SECRET}"', "SELECT a FROM t WHERE n = ?", "mysql"),
    (f"SELECT a FROM t WHERE n = X'{SECRET}'", "SELECT a FROM t WHERE n = ?", "mysql"),
    (f"SELECT a FROM t WHERE n = N'{SECRET}'", "SELECT a FROM t WHERE n = ?", "mssql"),
    (f"SELECT a FROM t WHERE n = '{SECRET}", "SELECT a FROM t WHERE n = ?", ""),
    (f"SELECT a FROM t /* {SECRET} */ WHERE b = 1 -- {SECRET}", "SELECT a FROM t   WHERE b = ?", ""),
    ("SELECT a FROM t WHERE b = 5.5 AND c IN (1, 2)", "SELECT a FROM t WHERE b = ? AND c IN (?, ?)", ""),
    ("SELECT a FROM t1 WHERE c2 = 0x1f", "SELECT a FROM t1 WHERE c2 = ?", ""),
    ("SELECT a::numeric(10, 2) FROM t WHERE b = 1", "SELECT a::numeric(10, 2) FROM t WHERE b = ?", "postgresql"),
    ("SELECT a FROM t WHERE b = %(b_1)s", "SELECT a FROM t WHERE b = %(b_1)s", "postgresql"),
]


@pytest.mark.parametrize(("statement", "expected", "dialect"), LITERALS, ids=[row[0][:50] for row in LITERALS])
def test_the_text_has_no_literals_and_no_comments(statement: str, expected: str, dialect: str) -> None:
    assert analyse(statement, dialect).text == expected
