"""What the owner of the shop looks at in the morning."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import ColumnElement, ColumnExpressionArgument, Row, case, distinct, func, select
from sqlalchemy.orm import aliased

from bookshop.models import Book, Customer, Order, OrderLine, Review, db

api = Blueprint("reports", __name__)

DAYS_SHOWN = 545
ORDERS_SHOWN = 280
SOLD = Order.status != "cancelled"


def _count_if(condition: ColumnExpressionArgument[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


FIGURES: dict[str, dict[str, ColumnElement[int]]] = {
    "books": {
        "titles": func.count(Book.id),
        "authors": func.count(distinct(Book.author_id)),
        "publishers": func.count(distinct(Book.publisher_id)),
        "copies": func.sum(Book.stock),
        "stock_value_cents": func.sum(Book.stock * Book.price_cents),
        "sold_out": _count_if(Book.stock == 0),
        "dearest_cents": func.max(Book.price_cents),
    },
    "customers": {
        "registered": func.count(Customer.id),
        "cities": func.count(distinct(Customer.city)),
        "newsletter": _count_if(Customer.newsletter),
        "never_bought": _count_if(Customer.spent_cents == 0),
        "most_spent_cents": func.max(Customer.spent_cents),
    },
    "orders": {
        "placed": func.count(Order.id),
        "open": _count_if(Order.status == "open"),
        "revenue_cents": func.sum(case((SOLD, Order.total_cents), else_=0)),
        "largest_cents": func.max(Order.total_cents),
        "buyers": func.count(distinct(Order.customer_id)),
        "trading_days": func.count(distinct(Order.placed_on)),
    },
    "reviews": {
        "written": func.count(Review.id),
        "books": func.count(distinct(Review.book_id)),
        "authors": func.count(distinct(Review.customer_id)),
        "five_stars": _count_if(Review.rating == 5),
        "one_star": _count_if(Review.rating == 1),
        "found_helpful": func.sum(Review.helpful),
    },
}


@api.get("/bestsellers")
def bestsellers() -> Response:
    """The ten titles sold most often."""
    sold = func.sum(OrderLine.quantity).label("sold")
    by_book = select(OrderLine.book_id, sold).group_by(OrderLine.book_id)
    best = by_book.order_by(sold.desc(), OrderLine.book_id).limit(10).subquery()
    query = select(Book.title, best.c.sold).join(best, best.c.book_id == Book.id)
    found = db.session.execute(query.order_by(best.c.sold.desc(), Book.id))
    return jsonify([{"title": title, "sold": int(count)} for title, count in found])


@api.get("/dashboard")
def dashboard() -> Response:
    """Wrong: a query for every single figure."""
    answer: dict[str, dict[str, int]] = {}
    for topic, figures in FIGURES.items():
        answer[topic] = {name: int(db.session.scalar(select(figure)) or 0) for name, figure in figures.items()}
    return jsonify(answer)


@api.get("/dashboard/fixed")
def dashboard_fixed() -> Response:
    """Right: all figures of a table in one pass over it."""
    answer: dict[str, dict[str, int]] = {}
    for topic, figures in FIGURES.items():
        row = db.session.execute(select(*figures.values())).one()
        answer[topic] = {name: int(figure or 0) for name, figure in zip(figures, row, strict=True)}
    return jsonify(answer)


@api.get("/order-sizes")
def order_sizes() -> Response:
    """Wrong: for each of the newest orders the database counts all the larger ones. Slow."""
    other = aliased(Order)
    larger = select(func.count()).select_from(other).where(other.total_cents > Order.total_cents)
    return jsonify(_newest_by_size(larger.scalar_subquery() + 1))


@api.get("/order-sizes/fixed")
def order_sizes_fixed() -> Response:
    """Right: a window function ranks all orders in one pass."""
    return jsonify(_newest_by_size(func.rank().over(order_by=Order.total_cents.desc())))


@api.get("/running-revenue")
def running_revenue() -> Response:
    """Wrong: for each of the last days the database adds up all orders since the shop opened. Critically slow."""
    day = Order.placed_on
    days = select(day).where(SOLD).distinct().order_by(day.desc()).limit(DAYS_SHOWN).subquery()
    until_then = select(func.sum(Order.total_cents)).where(day <= days.c.placed_on, SOLD)
    total = until_then.scalar_subquery().label("total")
    query = select(days.c.placed_on, total).order_by(total.desc(), days.c.placed_on)
    return jsonify(_by_day(db.session.execute(query)))


@api.get("/running-revenue/fixed")
def running_revenue_fixed() -> Response:
    """Right: one sum per day, and a running sum over those."""
    total = func.sum(func.sum(Order.total_cents)).over(order_by=Order.placed_on).label("total")
    query = select(Order.placed_on, total).where(SOLD).group_by(Order.placed_on)
    newest_first = query.order_by(total.desc(), Order.placed_on).limit(DAYS_SHOWN)
    return jsonify(_by_day(db.session.execute(newest_first)))


@api.get("/bought-together")
def bought_together() -> Response:
    """Wrong: quick queries, then a slow loop: every pair of books, and `in` on a list looks at every element."""
    buyers = _buyers_by_book()
    shared = {
        (one, other): len([customer for customer in buyers[one] if customer in buyers[other]])
        for one, other in combinations(buyers, 2)
    }
    return jsonify(_closest_pairs(buyers, shared))


@api.get("/bought-together/fixed")
def bought_together_fixed() -> Response:
    """Right: go through the customers, who have few books each, and count the pairs that exist."""
    buyers = _buyers_by_book()
    books: dict[int, list[int]] = defaultdict(list)
    for book_id, customers in buyers.items():
        for customer_id in customers:
            books[customer_id].append(book_id)
    shared = Counter(pair for of_customer in books.values() for pair in combinations(of_customer, 2))
    return jsonify(_closest_pairs(buyers, shared))


def _newest_by_size(place: ColumnElement[int]) -> list[dict[str, Any]]:
    """The newest orders, the largest first, each with its `place` among all orders."""
    newest = select(Order.id, place.label("place")).order_by(Order.id.desc()).limit(ORDERS_SHOWN).subquery()
    rows = db.session.execute(select(newest).order_by(newest.c.place, newest.c.id))
    return [{"order": row.id, "place": row.place} for row in rows]


def _by_day(rows: Iterable[Row[Any]]) -> list[dict[str, Any]]:
    return [{"day": day.isoformat(), "revenue_cents": int(revenue)} for day, revenue in rows]


def _buyers_by_book() -> dict[int, list[int]]:
    """The customers of each of the `?books=` (at most 500) best-selling books, each customer once."""
    limit = min(500, max(2, request.args.get("books", 360, type=int)))
    by_orders = select(OrderLine.book_id).group_by(OrderLine.book_id).order_by(func.count().desc(), OrderLine.book_id)
    popular = sorted(db.session.scalars(by_orders.limit(limit)))
    query = select(OrderLine.book_id, Order.customer_id).join(OrderLine.order).where(OrderLine.book_id.in_(popular))
    buyers: dict[int, set[int]] = {book_id: set() for book_id in popular}
    for book_id, customer_id in db.session.execute(query):
        buyers[book_id].add(customer_id)
    return {book_id: sorted(customers) for book_id, customers in buyers.items()}


def _closest_pairs(buyers: dict[int, list[int]], shared: Mapping[tuple[int, int], int]) -> list[dict[str, Any]]:
    """The ten pairs of books that share the largest part of their buyers."""
    scores = []
    for (one, other), count in shared.items():
        scores.append((-count / (len(buyers[one]) + len(buyers[other]) - count), one, other))
    best = heapq.nsmallest(10, scores)
    return [{"books": [one, other], "score": round(-score, 4)} for score, one, other in best]
