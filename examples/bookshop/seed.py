"""Deterministic seed data: the same rows on every machine, about 60,000 of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Any

from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.orm import Session

from bookshop import words
from bookshop.models import Base, book_genres

Row = dict[str, Any]
Rows = list[Row]

PUBLISHERS, AUTHORS, BOOKS, CUSTOMERS, ORDERS, REVIEWS = 40, 400, 2_000, 3_200, 12_000, 8_000
FIRST_DAY = date(2023, 7, 1)
DAYS = 1_096
OPEN_ORDERS, SHIPPED_ORDERS = 150, 250  # the newest ones; of the others one in 25 was cancelled
BATCH = 1_000  # rows per INSERT


def fill(session: Session) -> dict[str, int]:
    """Insert every row into empty tables, commit, and return the number of rows by table."""
    rows = _all_rows(Random(1605))  # the year of Don Quixote
    for table in Base.metadata.sorted_tables:
        _insert(session, table, rows[table.name])
    if session.get_bind().dialect.name == "postgresql":
        _move_sequences(session)
    session.commit()
    return {name: len(table_rows) for name, table_rows in rows.items()}


def _insert(session: Session, table: Table, rows: Rows) -> None:
    for start in range(0, len(rows), BATCH):
        session.execute(insert(table), rows[start : start + BATCH])


def _move_sequences(session: Session) -> None:
    """Rows came with their ids: PostgreSQL's sequences have to learn about them."""
    for table in Base.metadata.sorted_tables:
        if table.name in (book_genres.name, "shop_settings"):
            continue
        sequence = func.pg_get_serial_sequence(table.name, "id")
        session.execute(select(func.setval(sequence, select(func.max(table.c.id)).scalar_subquery())))
    session.execute(text("ANALYZE"))


def _all_rows(rng: Random) -> dict[str, Rows]:
    books = list(_books(rng))
    customers = list(_customers(rng))
    orders, lines = _orders(rng, books, customers)
    reviews = list(_reviews(rng))
    reviews_of = Counter(review["book_id"] for review in reviews)
    for book in books:
        book["review_count"] = reviews_of[book["id"]]
    return {
        "shop_settings": [{"name": "free_shipping_cents", "value": 2_900}, {"name": "vat_percent", "value": 7}],
        "publishers": [{"id": i, "name": _house(rng)} for i in range(1, PUBLISHERS + 1)],
        "genres": [{"id": i, "name": name} for i, name in enumerate(words.GENRES, start=1)],
        "authors": list(_authors(rng)),
        "books": books,
        "book_genres": list(_genres_of_books(rng)),
        "customers": customers,
        "orders": orders,
        "order_lines": lines,
        "reviews": reviews,
    }


def _person(rng: Random) -> str:
    return f"{rng.choice(words.FIRST_NAMES)} {rng.choice(words.LAST_NAMES)}"


def _house(rng: Random) -> str:
    return f"{rng.choice(words.LAST_NAMES)} {rng.choice(words.HOUSES)}"


def _day(rng: Random) -> date:
    return FIRST_DAY + timedelta(days=rng.randrange(DAYS))


def _popular(rng: Random, count: int) -> int:
    """An id from 1 to `count`; low ones far more often, as bestsellers are."""
    return 1 + int(count * rng.random() ** 2.2)


def _authors(rng: Random) -> Iterator[Row]:
    for id_ in range(1, AUTHORS + 1):
        bio = " ".join(rng.choice(words.BIO) for _ in range(12))
        yield {"id": id_, "name": _person(rng), "country": rng.choice(words.COUNTRIES), "bio": bio}


def _books(rng: Random) -> Iterator[Row]:
    for id_ in range(1, BOOKS + 1):
        yield {
            "id": id_,
            "isbn": f"978{id_:010d}",
            "title": f"{rng.choice(words.TITLE_STARTS)} {rng.choice(words.TITLE_ENDS)}",
            # The first books of the shop are by as many different authors.
            "author_id": id_ if id_ <= AUTHORS else 1 + rng.randrange(AUTHORS),
            "publisher_id": 1 + rng.randrange(PUBLISHERS),
            "price_cents": 100 * rng.randrange(7, 45) + 90,
            "pages": rng.randrange(90, 900),
            "published_on": date(1990, 1, 1) + timedelta(days=rng.randrange(12_000)),
            "stock": rng.randrange(200),
        }


def _genres_of_books(rng: Random) -> Iterator[Row]:
    for book_id in range(1, BOOKS + 1):
        first, second = rng.sample(range(1, len(words.GENRES) + 1), 2)
        yield {"book_id": book_id, "genre_id": first}
        yield {"book_id": book_id, "genre_id": second}


def _customers(rng: Random) -> Iterator[Row]:
    for id_ in range(1, CUSTOMERS + 1):
        name = _person(rng)
        yield {
            "id": id_,
            "name": name,
            "email": f"{name.lower().replace(' ', '.')}.{id_}@example.com",
            "city": rng.choice(words.CITIES),
            "joined_on": FIRST_DAY - timedelta(days=rng.randrange(700)),
            "newsletter": rng.random() < 0.3,
            "spent_cents": 0,
        }


def _orders(rng: Random, books: Rows, customers: Rows) -> tuple[Rows, Rows]:
    """Orders with one to four lines each; adds up what every customer spent."""
    days = sorted(_day(rng) for _ in range(ORDERS))
    orders: Rows = []
    lines: Rows = []
    for id_, day in enumerate(days, start=1):
        new_lines = [_line(rng, id_, books) for _ in range(rng.randrange(1, 5))]
        for line in new_lines:
            lines.append({"id": len(lines) + 1, **line})
        order = {
            "id": id_,
            "customer_id": 1 + rng.randrange(CUSTOMERS),
            "placed_on": day,
            "status": _status(rng, id_),
            "total_cents": sum(line["quantity"] * line["price_cents"] for line in new_lines),
        }
        orders.append(order)
        if order["status"] != "cancelled":
            customers[order["customer_id"] - 1]["spent_cents"] += order["total_cents"]
    return orders, lines


def _line(rng: Random, order_id: int, books: Rows) -> Row:
    book = books[_popular(rng, BOOKS) - 1]
    quantity = 1 + (rng.random() < 0.1)
    return {"order_id": order_id, "book_id": book["id"], "quantity": quantity, "price_cents": book["price_cents"]}


def _status(rng: Random, id_: int) -> str:
    if id_ > ORDERS - OPEN_ORDERS:
        return "open"
    if id_ > ORDERS - OPEN_ORDERS - SHIPPED_ORDERS:
        return "shipped"
    return "cancelled" if rng.random() < 0.04 else "delivered"


def _reviews(rng: Random) -> Iterator[Row]:
    for id_, day in enumerate(sorted(_day(rng) for _ in range(REVIEWS)), start=1):
        yield {
            "id": id_,
            "book_id": _popular(rng, BOOKS),
            "customer_id": 1 + rng.randrange(CUSTOMERS),
            "rating": rng.choice((1, 2, 3, 3, 4, 4, 4, 5, 5, 5)),
            "headline": rng.choice(words.HEADLINES),
            "body": " ".join(rng.choice(words.REVIEW) for _ in range(3)),
            "helpful": _popular(rng, 60) - 1,
            "written_on": day,
        }
