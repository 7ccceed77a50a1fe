"""What a statement is, from its text alone: fingerprint, summary, text without literals, roles of values.

Pure functions; each text is analysed once and kept in a bounded cache.
"""

import functools
import hashlib
import re
from dataclasses import dataclass, replace
from typing import Final

from querywatch.sql import summary
from querywatch.sql.roles import Roles, hash_values
from querywatch.sql.roles import analyse as analyse_roles
from querywatch.sql.tokens import tokenise

#: Characters. Longer statements are squeezed and cut before they are analysed: memory and time stay bounded.
MAX_ANALYSED: Final = 16_384
_HEAD_AND_TAIL: Final = 65_536
_MAX_CACHED: Final = 1024

_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"})
_TRANSACTION: Final = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"})
_NO_QUERY: Final = _TRANSACTION | {"PRAGMA", "SHOW", "DESCRIBE", "DESC"}
_NO_LITERALS: Final = hash(())
_CATALOGUES: Final = ("pg_catalog", "information_schema", "sqlite_master", "sqlite_temp_master", "sys.", "mysql.")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, analysed.

    `fingerprint` (16 hex digits) is equal for statements that differ in literals, IN-list length, comments or white
    space; `summary` is OpenTelemetry's `db.query.summary`; `text` has `?` for every literal. `is_query` is false for
    transaction control, savepoints, PRAGMA and reflection. `literals` is a hash of the literal values, `roles` tells
    which values make the condition. `table` and `column` are the first table and the first column that is compared
    with `=`, empty where there is none: words for the advice. `is_write` holds for INSERT, UPDATE, DELETE, REPLACE and
    MERGE, `is_plain` where all values belong to the condition, as they do in most statements. `inserts_many` holds for
    several rows in one VALUES.
    """

    fingerprint: str
    summary: str
    text: str
    verb: str
    is_query: bool
    literals: int
    roles: Roles
    table: str
    is_write: bool
    is_plain: bool
    inserts_many: bool

    @property
    def has_literals(self) -> bool:
        """Whether the text holds literal values."""
        return self.literals != _NO_LITERALS

    @property
    def column(self) -> str:
        """The first column that is compared with `=`, with its table where the statement names it."""
        return self.roles.column


def analyse(statement: object, dialect: str = "") -> Statement:
    """Return what `statement` is. Never raises; bytes are decoded, other objects are taken by their str().

    `dialect` is SQLAlchemy's name of it (`postgresql`, `mysql`, …); another one follows the standard's quoting.
    """
    text = _as_text(statement)
    if len(text) > MAX_ANALYSED:
        return replace(_analyse(_squeezed(text), dialect), literals=hash(text))
    return _analyse(text, dialect)


def _as_text(statement: object) -> str:
    if isinstance(statement, str):
        return statement
    if isinstance(statement, bytes):
        return statement.decode(errors="replace")
    try:
        return str(statement)
    except Exception:  # noqa: BLE001 - somebody's own __str__, of whatever kind
        return type(statement).__qualname__


# Possessive, and never from within a number: a digit string of megabytes must not be tried from each of its digits.
_LONG_LIST: Final = re.compile(r"(?:((?<!\d)-?\d++|'[^']*+'|\?|%s|\((?:[^()']++|'[^']*+')*+\))\s*+,\s*+){8,}")


def _squeezed(text: str) -> str:
    """Shorten a huge statement's long lists of values to a few values each, then cut it to what is analysed.

    Of a text longer than 128 KiB the middle is left out: it is a list that begins in the head and ends in the tail.
    """
    if len(text) > 2 * _HEAD_AND_TAIL:
        text = text[:_HEAD_AND_TAIL] + text[-_HEAD_AND_TAIL:]
    return _LONG_LIST.sub(r"\1,\1,\1,", text)[:MAX_ANALYSED]


@functools.lru_cache(maxsize=_MAX_CACHED)
def _analyse(text: str, dialect: str) -> Statement:
    tokens = tokenise(text, dialect)
    roles = analyse_roles(tokens)
    verb = _verb(tokens.words)
    literals = hash(tuple(value.text for value in tokens.values if value.is_literal))
    return Statement(
        fingerprint=_fingerprint(tokens.words),
        summary=summary.summarise(tokens.words),
        text=tokens.text,
        verb=verb,
        is_query=_is_query(tokens.words),
        literals=literals,
        roles=roles,
        table=summary.first_table(tokens.words),
        is_write=verb in _WRITES,
        is_plain=roles.all_are_condition and roles.condition_literals == literals,
        inserts_many=verb in ("INSERT", "REPLACE") and _ROWS.search(" ".join(tokens.words)) is not None,
    )


_LIST: Final = re.compile(r"\b(IN|ANY|ARRAY)( [(\[](?: \()?) \?(?: , \?)+", re.IGNORECASE)
_LIST_OF_TUPLES: Final = re.compile(r"(\bIN \( (?:VALUES )?)(\( [^()]*\))(?: , \( [^()]*\))+", re.IGNORECASE)
_ROWS: Final = re.compile(r"(\bVALUES )(\((?:[^()]|\([^()]*\))*\))(?: , \2)+", re.IGNORECASE)


def _fingerprint(words: list[str]) -> str:
    shape = _ROWS.sub(r"\1\2", _LIST_OF_TUPLES.sub(r"\1\2", _LIST.sub(r"\1\2 ?", " ".join(words))))
    return hashlib.blake2b(shape.encode(errors="replace"), digest_size=8).hexdigest()


def _verb(words: list[str]) -> str:
    """Return the operation in upper case: the main one of a statement that starts with WITH."""
    first = next((word.upper() for word in words if word != "("), "")
    if first != "WITH":
        return first
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if depth == 0 and word.upper() in _WRITES | {"SELECT"}:
            return word.upper()
    return first


def _is_query(words: list[str]) -> bool:
    first = _verb(words)
    if first in _NO_QUERY or (first == "SET" and "TRANSACTION" in (word.upper() for word in words[1:4])):
        return False
    tables = summary.tables(words)
    return not tables or not all(_is_catalogue(table.lower()) for table in tables)


def _is_catalogue(table: str) -> bool:
    return table.startswith(_CATALOGUES) or table.endswith((".sqlite_master", ".sqlite_temp_master"))


__all__ = ["MAX_ANALYSED", "Roles", "Statement", "analyse", "hash_values"]
