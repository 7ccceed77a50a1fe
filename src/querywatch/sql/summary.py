"""`db.query.summary`: the operations and the tables of a statement, in the order of the text.

https://opentelemetry.io/docs/specs/semconv/database/database-spans/#generating-a-summary-of-the-query
"""

from collections.abc import Iterator
from typing import Final

#: The convention's recommended limit, in characters.
MAX_LENGTH: Final = 255

_OPERATIONS: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"})
_BEFORE_OPERATION: Final = frozenset({"", "(", ")", ";", "ALL", "UNION", "EXCEPT", "INTERSECT", "THEN"})
_BEFORE_TABLE: Final = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE"})
_ENDS_TABLES: Final = frozenset(
    "EXCEPT FETCH FOR GROUP HAVING INTERSECT LIMIT OFFSET ON ORDER RETURNING SET UNION USING VALUES WHERE".split()
)
_DEFINITIONS: Final = frozenset({"CREATE", "DROP", "ALTER", "TRUNCATE"})
_NO_TABLE: Final = frozenset({"(", "?", "SELECT", "SET", "OF", "NOWAIT", "SKIP"})
_SKIPPED: Final = frozenset({"ONLY", "LATERAL", "IF", "NOT", "EXISTS", "IGNORE"})


def summarise(words: list[str]) -> str:
    """Return for example `SELECT authors books`, at most 255 characters, cut between words."""
    parts = [name for name, _ in _parts(words)] or [word.upper() for word in words[:1]]
    summary = ""
    for part in parts:
        longer = f"{summary} {part}" if summary else part
        if len(longer) > MAX_LENGTH:
            break
        summary = longer
    return summary or (parts[0][:MAX_LENGTH] if parts else "")


def tables(words: list[str]) -> list[str]:
    """Return the tables in the order of the text, with their schema, without the quotes around a plain name."""
    return [name for name, is_table in _parts(words) if is_table]


def first_table(words: list[str]) -> str:
    """Return the first table, empty where the statement has none."""
    return next(iter(tables(words)), "")


class _Scope:
    """Where in the nesting of brackets and SELECTs a word stands."""

    def __init__(self) -> None:
        self.depth = 0
        #: Depth of each SELECT around the word, and whether its list of tables is open.
        self.clauses: list[tuple[int, bool]] = []

    def bracket(self, word: str) -> None:
        """Go in or out by one bracket."""
        self.depth += 1 if word == "(" else -1
        while self.clauses and self.clauses[-1][0] > self.depth:
            self.clauses.pop()

    @property
    def is_clause(self) -> bool:
        """Whether the word stands in a SELECT itself, not in brackets within it."""
        return bool(self.clauses) and self.clauses[-1][0] == self.depth

    @property
    def in_tables(self) -> bool:
        """Whether a comma goes on with the list of tables."""
        return self.is_clause and self.clauses[-1][1]


def _parts(words: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield (name, whether it is a table) of each operation and each table."""
    if words and words[0].upper() in _DEFINITIONS:
        yield from _definition(words)
        return
    local = _common_table_expressions(words)
    scope = _Scope()
    for position, word in enumerate(words):
        upper = word.upper()
        previous = words[position - 1].upper() if position else ""
        if word in "()":
            scope.bracket(word)
        elif _is_operation(upper, previous, words, position):
            scope.clauses.append((scope.depth, False))
            yield upper, False
        opens = _opens_tables(upper, previous, scope)
        table = _name_at(words, position + 1) if opens or (word == "," and scope.in_tables) else ""
        if scope.is_clause and (opens or upper in _ENDS_TABLES):
            scope.clauses[-1] = (scope.depth, opens)
        if table and table not in local:
            yield table, True


def _is_operation(upper: str, previous: str, words: list[str], position: int) -> bool:
    if upper not in _OPERATIONS or (words[position + 1 : position + 2] == ["("] and upper == "REPLACE"):
        return False
    # `FOR UPDATE`, `ON CONFLICT DO UPDATE`, `ON DELETE CASCADE` are no operations of their own.
    return upper == "SELECT" or previous in _BEFORE_OPERATION


def _opens_tables(upper: str, previous: str, scope: _Scope) -> bool:
    if upper == "UPDATE":
        return previous in _BEFORE_OPERATION
    # `EXTRACT(year FROM t.made)` and `IS DISTINCT FROM` have a FROM that names no table.
    if upper == "FROM":
        return previous != "DISTINCT" and scope.is_clause
    return upper in _BEFORE_TABLE


def _definition(words: list[str]) -> Iterator[tuple[str, bool]]:
    kinds = {"TABLE", "INDEX", "VIEW", "SEQUENCE", "TYPE", "SCHEMA", "TRIGGER", "FUNCTION", "DATABASE"}
    position = next((i for i, word in enumerate(words[:6]) if word.upper() in kinds), None)
    if position is None:
        yield words[0].upper(), False
        return
    yield f"{words[0].upper()} {words[position].upper()}", False
    name = _name_at(words, position + 1)
    if name:
        yield name, True


def _name_at(words: list[str], position: int) -> str:
    while position < len(words) and words[position].upper() in _SKIPPED:
        position += 1
    if position >= len(words) or words[position].upper() in _NO_TABLE or not _is_name(words[position]):
        return ""
    name = _plain(words[position])
    while words[position + 1 : position + 2] == ["."] and position + 2 < len(words):
        position += 2
        name += "." + _plain(words[position])
    return name


def _is_name(word: str) -> bool:
    return word[0].isalpha() or word[0] in '_"`['


def _plain(name: str) -> str:
    """Drop the quotes of a name that reads the same without them; the convention keeps those around a space."""
    inner = name.strip('"`[]')
    return inner if inner and " " not in inner else name


def _common_table_expressions(words: list[str]) -> frozenset[str]:
    if not words or words[0].upper() != "WITH":
        return frozenset()
    return frozenset(
        _plain(words[i - 1])
        for i in range(1, len(words) - 1)
        if words[i].upper() == "AS" and words[i + 1] in ("(", "MATERIALIZED", "NOT") and _is_name(words[i - 1])
    ) | frozenset(  # WITH RECURSIVE tree (id, parent) AS (…)
        _plain(words[i]) for i in range(1, 3) if i + 1 < len(words) and words[i + 1] == "(" and _is_name(words[i])
    )
