"""The roles of a statement's values: which make its condition, and which only move a page or list a batch.

Pagination moves an OFFSET, or a key (`WHERE id > :last ORDER BY id LIMIT 100`); batch loading changes an IN list. Both
keep the rest, the condition, as it is. An N+1 changes the condition. Hence runs are told apart by their condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from querywatch.sql.tokens import Tokens

#: An IN list of one or two values is a loop over single rows; from three on each run stands for a batch.
SMALLEST_BATCH: Final = 3

_RANGE: Final = frozenset({"<", ">", "<=", ">="})
_LIMIT_WORDS: Final = frozenset({"LIMIT", "FIRST", "NEXT", "TOP"})
_LIST_WORDS: Final = frozenset({"IN", "ANY"})


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of a statement's placeholders, by their position, and a hash of the literals of its condition.

    `names` are the placeholders' names. `offsets` hold an OFFSET, `keys` the key of a keyset pagination, `lists` an
    IN list or its values. `limit` is the LIMIT where that is a literal, `limit_at` its placeholder otherwise. `column`
    is the first column that is compared with `=`.
    """

    names: tuple[str, ...]
    offsets: frozenset[int]
    keys: frozenset[int]
    lists: frozenset[int]
    limit: int | None
    limit_at: int | None
    condition_literals: int
    column: str

    @property
    def all_are_condition(self) -> bool:
        """Whether every placeholder belongs to the condition, as in most statements."""
        return not (self.offsets or self.keys or self.lists)

    def condition(self, values: Sequence[Any]) -> int:
        """Return a hash of the condition, given the values of the placeholders in their order."""
        limit = self.limit if self.limit_at is None else values[self.limit_at]
        listed = sum(len(values[n]) if isinstance(values[n], list | tuple | set) else 1 for n in self.lists)
        skipped = self.offsets
        if limit != 1:
            skipped |= self.keys
        if listed >= SMALLEST_BATCH:
            skipped |= self.lists
        kept = tuple(value for position, value in enumerate(values) if position not in skipped)
        return hash((self.condition_literals, hash_values(kept)))


def hash_values(values: tuple[Any, ...]) -> int:
    """Return a hash of parameter values; those that Python can't hash (lists, dicts) are taken by their repr()."""
    try:
        return hash(values)
    except TypeError:
        return hash(repr(values))


@dataclass(slots=True)
class _Places:
    """Places of values (in `Tokens.values`) by role; ranges and equalities with their column."""

    offsets: set[int] = field(default_factory=set)
    limit: int | None = None
    ranges: dict[int, str] = field(default_factory=dict)
    equals: dict[int, str] = field(default_factory=dict)
    lists: set[int] = field(default_factory=set)


def analyse(tokens: Tokens) -> Roles:
    """Return the roles of the values of a statement."""
    places = _places(tokens.words)
    keys = _keys(places, tokens.words)
    placeholders = [place for place, value in enumerate(tokens.values) if not value.is_literal]
    limit = None if places.limit is None else tokens.values[places.limit]

    def positions(chosen: set[int]) -> frozenset[int]:
        return frozenset(position for position, place in enumerate(placeholders) if place in chosen)

    return Roles(
        names=tuple(_name(tokens.values[place].text) for place in placeholders),
        offsets=positions(places.offsets),
        keys=positions(keys),
        lists=positions(places.lists),
        limit=_whole_number(limit.text) if limit is not None and limit.is_literal else None,
        limit_at=placeholders.index(places.limit) if places.limit in placeholders else None,
        condition_literals=_condition_literals(tokens, places, keys),
        column=next(filter(None, places.equals.values()), ""),
    )


def _condition_literals(tokens: Tokens, places: _Places, keys: set[int]) -> int:
    listed = {place for place in places.lists if tokens.values[place].is_literal}
    skipped = places.offsets | (keys if places.limit is None or tokens.values[places.limit].text != "1" else set())
    if len(listed) >= SMALLEST_BATCH:
        skipped = skipped | listed
    values = enumerate(tokens.values)
    return hash(tuple(value.text for place, value in values if value.is_literal and place not in skipped))


def _keys(places: _Places, words: Sequence[str]) -> set[int]:
    if places.limit is None or "ORDER" not in {word.upper() for word in words}:
        return set()
    # `made > :t OR (made = :t AND id > :id)`: the column that moves is compared with = as well.
    columns = set(places.ranges.values()) - {""}
    return set(places.ranges) | {place for place, column in places.equals.items() if column in columns}


def _places(words: Sequence[str]) -> _Places:
    places = _Places()
    brackets: list[str] = []
    place = -1
    for position, word in enumerate(words):
        if word == "(":
            brackets.append(_bracket(words, position, brackets))
        elif word == ")" and brackets:
            brackets.pop()
        elif word.upper() == "SELECT" and brackets:
            brackets[-1] = ""
        elif word == "?":
            place += 1
            _assign(places, words, position, place, brackets[-1] if brackets else "")
    return places


def _bracket(words: Sequence[str], position: int, brackets: list[str]) -> str:
    """Return what an opening bracket holds: `IN` a list, `>` the values of a range, nothing special."""
    before = words[position - 1].upper() if position else ""
    if before in _LIST_WORDS or (brackets and brackets[-1] == "IN" and before in ("(", ",", "VALUES")):
        return "IN"
    return ">" if before in _RANGE else ""


def _assign(places: _Places, words: Sequence[str], position: int, place: int, bracket: str) -> None:
    before = words[position - 1].upper() if position else ""
    if bracket == "IN":
        places.lists.add(place)
    elif bracket == ">":
        places.ranges[place] = ""
    elif before == "OFFSET":
        places.offsets.add(place)
    elif before in _LIMIT_WORDS:
        places.limit = place
    elif before == "," and words[position - 2] == "?" and words[position - 3].upper() == "LIMIT":
        places.offsets.add(place - 1)  # MySQL: LIMIT offset, count
        places.limit = place
    else:
        _assign_compared(places, words, position, place)


def _assign_compared(places: _Places, words: Sequence[str], position: int, place: int) -> None:
    before = words[position - 1].upper() if position else ""
    if before in _RANGE:
        places.ranges[place] = _column(words, position - 2)
    elif before == "=":
        places.equals[place] = _column(words, position - 2)
    elif words[position + 1 : position + 2] == ["="]:  # SQLAlchemy compares with a parent as `? = book.author_id`
        places.equals[place] = _column_after(words, position + 2)
    elif _RANGE.intersection(words[position + 1 : position + 2]):
        places.ranges[place] = _column_after(words, position + 2)


def _column(words: Sequence[str], position: int) -> str:
    word = words[position]
    if not (word[0].isalpha() or word[0] in '_"`['):  # `lower(name) = ?` compares no column
        return ""
    name = word.strip('"`[]')
    if position >= 2 and words[position - 1] == ".":
        return words[position - 2].strip('"`[]') + "." + name
    return name


def _column_after(words: Sequence[str], position: int) -> str:
    qualified = words[position + 1 : position + 2] == ["."]
    end = position + 2 if qualified else position
    return _column(words, end) if end < len(words) else ""


def _name(placeholder: str) -> str:
    """Return `id_1` for `:id_1`, `%(id_1)s` and SQLAlchemy's `__[POSTCOMPILE_id_1]`."""
    inner = placeholder.partition("~~")[0].removeprefix("__[POSTCOMPILE_").rstrip("]")
    return inner.removeprefix("%(").removesuffix(")s").lstrip(":@$?%")


def _whole_number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
