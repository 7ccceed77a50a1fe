"""The back office, on a small connection pool of its own: how connections are leaked, held and used up, and how not.

These routes exist only where `BOOKSHOP_POOL_TROUBLE` is set, so that nobody leaks by accident.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from flask import Blueprint, Response, abort, jsonify, request
from sqlalchemy import Connection, Engine, Row, Select, Table, func, select
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bookshop.models import Base, Book, db

BIND: Final = "office"
#: Of the engine: small enough for one request to empty it, and a waiting call gives up after a second.
POOL: Final[Mapping[str, Any]] = {
    "pool_size": 4,
    "max_overflow": 2,
    "pool_timeout": 1,
    "pool_logging_name": BIND,
}
#: Seconds that the label printer takes; a pause stands for it.
PRINTING: Final = 0.2

api = Blueprint("office", __name__)

_PRICES = select(Book.title, Book.price_cents).limit(20)
PRICE_LISTS: Final[Mapping[str, Select[tuple[str, int]]]] = {
    "cheapest": _PRICES.order_by(Book.price_cents, Book.id),
    "dearest": _PRICES.order_by(Book.price_cents.desc(), Book.id),
    "newest": _PRICES.order_by(Book.published_on.desc(), Book.id),
    "last_copies": _PRICES.where(Book.stock == 1).order_by(Book.id),
}

TABLES: Final = Base.metadata.sorted_tables

#: Stocktakes that wait for their confirmation, which never comes.
_unconfirmed: list[Connection] = []


@api.post("/stocktake")
def stocktake() -> Response:
    """Wrong: the transaction stays open until somebody confirms, and its connection is nobody else's until then."""
    counted = _counted()
    connection = _engine().connect()
    _unconfirmed.append(connection)
    return jsonify(_differences(connection, counted))


@api.post("/stocktake/fixed")
def stocktake_fixed() -> Response:
    """Right: the connection is given back; a confirmation will take its own."""
    counted = _counted()
    with _engine().connect() as connection:
        return jsonify(_differences(connection, counted))


@api.get("/price-lists")
def price_lists() -> Response:
    """Wrong: a connection for every list, and all of them are held while the printer works."""
    with ExitStack() as held:
        lists = {name: held.enter_context(_engine().connect()).execute(query) for name, query in PRICE_LISTS.items()}
        return jsonify(_print({name: found.all() for name, found in lists.items()}))


@api.get("/price-lists/fixed")
def price_lists_fixed() -> Response:
    """Right: one connection for all lists, given back before the printer begins."""
    with _engine().connect() as connection:
        lists = {name: connection.execute(query).all() for name, query in PRICE_LISTS.items()}
    return jsonify(_print(lists))


@api.get("/audit")
def audit() -> Response:
    """Wrong: a connection for every table, each held to the end, which uses the whole pool up."""
    with ExitStack() as held:
        try:
            rows = {table.name: _rows(held.enter_context(_engine().connect()), table) for table in TABLES}
        except PoolTimeoutError:
            held.close()  # Others may wait for what this request holds: it goes on with a single connection.
            rows = _rows_of_all_tables()
    return jsonify(rows)


@api.get("/audit/fixed")
def audit_fixed() -> Response:
    """Right: one connection, and one query, for all tables."""
    return jsonify(_rows_of_all_tables())


def _engine() -> Engine:
    return db.engines[BIND]


def _counted() -> dict[int, int]:
    """The copies on the shelf by book id of a posted stocktake; 400 when it is none."""
    try:
        return {int(book_id): int(copies) for book_id, copies in request.get_json()["counted"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        abort(400, "a stocktake needs the copies counted by book id")


def _differences(connection: Connection, counted: Mapping[int, int]) -> dict[str, int]:
    """What the books say more or less than the shelves, by title."""
    query = select(Book.id, Book.title, Book.stock).where(Book.id.in_(counted)).order_by(Book.id)
    return {book.title: book.stock - counted[book.id] for book in connection.execute(query)}


def _print(lists: Mapping[str, Sequence[Row[tuple[str, int]]]]) -> dict[str, list[str]]:
    """Print the lists, which takes its time, and return the labels."""
    time.sleep(PRINTING)
    return {name: [f"{title}: {price / 100:.2f}" for title, price in rows] for name, rows in lists.items()}


def _rows(connection: Connection, table: Table) -> int:
    return int(connection.scalar(_count(table)) or 0)


def _rows_of_all_tables() -> dict[str, int]:
    counts = (_count(table).scalar_subquery().label(table.name) for table in TABLES)
    with _engine().connect() as connection:
        return dict(connection.execute(select(*counts)).one()._mapping)


def _count(table: Table) -> Select[tuple[int]]:
    return select(func.count()).select_from(table)
