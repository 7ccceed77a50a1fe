"""What the owner of the shop looks at in the morning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
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
    """Wrong: quick queries, then a slow loop; `in` on a list looks at every element."""
    return jsonify(_closest_pairs(_buyers_by_book(list)))


@api.get("/bought-together/fixed")
def bought_together_fixed() -> Response:
    """Right: the same loop on sets."""
    return jsonify(_closest_pairs(_buyers_by_book(set)))


def _newest_by_size(place: ColumnElement[int]) -> list[dict[str, Any]]:
    """The newest orders, the largest first, each with its `place` among all orders."""
    newest = select(Order.id, place.label("place")).order_by(Order.id.desc()).limit(ORDERS_SHOWN).subquery()
    rows = db.session.execute(select(newest).order_by(newest.c.place, newest.c.id))
    return [{"order": row.id, "place": row.place} for row in rows]


def _by_day(rows: Iterable[Row[Any]]) -> list[dict[str, Any]]:
    return [{"day": day.isoformat(), "revenue_cents": int(revenue)} for day, revenue in rows]


def _buyers_by_book(collect: Callable[[Iterable[int]], Collection[int]]) -> dict[int, Collection[int]]:
    """The customers of each of the `?books=` (at most 500) best-selling books."""
    books = min(500, max(2, request.args.get("books", 360, type=int)))
    most_sold = select(OrderLine.book_id).group_by(OrderLine.book_id)
    most_sold = most_sold.order_by(func.count().desc(), OrderLine.book_id).limit(books)
    popular = most_sold.subquery()
    query = select(OrderLine.book_id, Order.customer_id).join(OrderLine.order)
    query = query.join(popular, popular.c.book_id == OrderLine.book_id)
    buyers: dict[int, set[int]] = defaultdict(set)
    for book_id, customer_id in db.session.execute(query):
        buyers[book_id].add(customer_id)
    return {book_id: collect(buyers[book_id]) for book_id in sorted(buyers)}


def _closest_pairs(buyers: dict[int, Collection[int]]) -> list[dict[str, Any]]:
    """The ten pairs of books that share the largest part of their buyers."""
    scores = []
    for one, other in combinations(buyers, 2):
        shared = sum(1 for customer in buyers[one] if customer in buyers[other])
        scores.append((shared / (len(buyers[one]) + len(buyers[other]) - shared), one, other))
    best = sorted(scores, key=lambda score: (-score[0], score[1:]))[:10]
    return [{"books": [one, other], "score": round(score, 4)} for score, one, other in best]
