"""A tokeniser for SQL that knows where literals are, in the quoting of the dialects that SQLAlchemy ships."""

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: Words after which an expression starts, so that a sign belongs to the number that follows.
_BEFORE_EXPRESSION: Final = frozenset(
    "AND BETWEEN BY CASE DISTINCT ELSE HAVING IN LIKE LIMIT NOT OFFSET ON OR SELECT THEN VALUES WHEN WHERE".split()
)

_COMMENT: Final = r"/\*.*?(?:\*/|\Z)|--[^\n]*"
# SQLAlchemy's place for an expanding IN, then the five paramstyles of PEP 249, PostgreSQL's $1 and SQL Server's @name.
_PLACEHOLDER: Final = (
    r"__\[POSTCOMPILE_\w+(?:~~.*?~~REPL~~.*?~~)?\]|%\(\w+\)s|%s|\?"
    r"|(?<![:\w]):(?:[A-Za-z_]\w*|\d+)|\$\d+|(?<!@)@[A-Za-z_]\w*"
)
_CAST: Final = (
    r"::\s*[A-Za-z_\"][\w.\"]*(?:\s+(?:WITH(?:OUT)?\s+TIME\s+ZONE|PRECISION|VARYING)\b)?"
    r"(?:\(\d+(?:,\s*\d+)?\))?(?:\[\d*\])*"
)
_NUMBER: Final = r"0x[0-9a-f]+|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_STRING: Final = r"(?:[NBX]|U&)?'(?:[^']++|'')*+(?:'|\Z)"
_BACKSLASHED: Final = r"'(?:[^'\\]++|\\.|'')*+(?:'|\Z)"
_DOLLAR_QUOTED: Final = r"\$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|\Z)"
_DOUBLE_QUOTED: Final = r'"(?:[^"]++|"")*+(?:"|\Z)'
_DOUBLE_BACKSLASHED: Final = r'"(?:[^"\\]++|\\.|"")*+(?:"|\Z)'
_NAME: Final = r"`(?:[^`]++|``)*+(?:`|\Z)|[^\W\d][\w$]*"
_OPERATOR: Final = r"<=>|<>|<=|>=|!=|\|\||->>|->|:=|::|\S"


def _pattern(*, literal: str, name: str, comment: str = _COMMENT) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<space>\s+|{comment})|(?P<cast>{_CAST})|(?P<placeholder>{_PLACEHOLDER})"
        rf"|(?P<literal>{literal}|{_NUMBER})|(?P<name>{name})|(?P<operator>{_OPERATOR})",
        re.DOTALL | re.IGNORECASE,
    )


_STANDARD: Final = _pattern(literal=f"E{_BACKSLASHED}|{_STRING}", name=f"{_DOUBLE_QUOTED}|{_NAME}")
_POSTGRESQL: Final = _pattern(literal=f"E{_BACKSLASHED}|{_STRING}|{_DOLLAR_QUOTED}", name=f"{_DOUBLE_QUOTED}|{_NAME}")
# Double quotes hold a string in MySQL and MariaDB, unless ANSI_QUOTES is set, which it is not by default.
_MYSQL: Final = _pattern(
    literal=f"[NBX]?{_BACKSLASHED}|{_DOUBLE_BACKSLASHED}", name=_NAME, comment=_COMMENT + r"|\#[^\n]*"
)
_MSSQL: Final = _pattern(literal=_STRING, name=rf"\[[^\]]*\]|{_DOUBLE_QUOTED}|{_NAME}")
_PATTERNS: Final = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL, "mssql": _MSSQL}


class Value(NamedTuple):
    """A literal or a placeholder, with its text."""

    text: str
    is_literal: bool


@dataclass(slots=True)
class Tokens:
    """A statement's tokens: `words` has `?` where a value stands, and the n-th `?` is `values[n]`."""

    words: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The statement with `?` for literals and without comments; placeholders stay as they are."""
        return "".join(self.pieces).strip()


def tokenise(text: str, dialect: str) -> Tokens:
    """Split `text`. Every text has tokens: what is no SQL comes out as operators, an open quote reaches to the end."""
    tokens = Tokens()
    for match in _PATTERNS.get(dialect, _STANDARD).finditer(text):
        group = match.lastgroup
        if group == "tag":  # an inner group of a dollar-quoted literal
            group = "literal"
        _add(tokens, group or "operator", match[0])
    return tokens


def _add(tokens: Tokens, group: str, text: str) -> None:
    if group == "space":
        tokens.pieces.append(text if text.isspace() else " ")
        return
    tokens.pieces.append("?" if group == "literal" or text.startswith("__[") else text)
    if group in ("literal", "placeholder"):
        _add_value(tokens, Value(text, group == "literal"))
    elif group != "cast" or tokens.words[-1:] != ["?"]:
        # The drivers disagree on whether a bound value carries its type: `%(id)s::INTEGER` is `?`.
        tokens.words.append(text)


def _add_value(tokens: Tokens, value: Value) -> None:
    if value.is_literal and tokens.words[-1:] in (["-"], ["+"]) and _starts_expression(tokens.words[:-1]):
        # `-1` differs from `1` in the literal, not in the statement.
        value = Value(tokens.words.pop() + value.text, is_literal=True)
    tokens.words.append("?")
    tokens.values.append(value)


def _starts_expression(words: list[str]) -> bool:
    last = words[-1] if words else "("
    is_operand = last in {"?", ")"} or last[0].isalnum() or last[0] in '_"`['
    return last.upper() in _BEFORE_EXPRESSION or not is_operand
