"""Reviews, and the counts of them that the books carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, jsonify
from sqlalchemy import func, select, update
from sqlalchemy.orm import joinedload

from bookshop.models import Book, Review, db

api = Blueprint("reviews", __name__)

PAGE = 12
LATEST = select(Review).order_by(Review.id.desc()).limit(PAGE)


@api.get("/book/<int:book_id>")
def of_book(book_id: int) -> Response:
    """The most helpful reviews of one book."""
    db.get_or_404(Book, book_id)
    most_helpful = (Review.helpful.desc(), Review.id)
    found = db.session.scalars(select(Review).where(Review.book_id == book_id).order_by(*most_helpful).limit(PAGE))
    return jsonify([{"rating": review.rating, "headline": review.headline, "body": review.body} for review in found])


@api.get("/latest")
def latest() -> Response:
    """Wrong: every review fetches its book when `review.book` is touched."""
    found = db.session.scalars(LATEST).all()
    return jsonify([_with_title(review) for review in found])


@api.get("/latest/fixed")
def latest_fixed() -> Response:
    """Right: the books come with the reviews, by a join."""
    found = db.session.scalars(LATEST.options(joinedload(Review.book))).all()
    return jsonify([_with_title(review) for review in found])


@api.post("/recount")
def recount() -> Response:
    """Wrong: one UPDATE per book."""
    counts = _counts_of_most_reviewed()
    for book_id, count in counts:
        db.session.execute(update(Book).where(Book.id == book_id).values(review_count=count))
    db.session.commit()
    return jsonify(dict(counts))


@api.post("/recount/fixed")
def recount_fixed() -> Response:
    """Right: one UPDATE with a list of rows."""
    counts = _counts_of_most_reviewed()
    db.session.execute(update(Book), [{"id": book_id, "review_count": count} for book_id, count in counts])
    db.session.commit()
    return jsonify(dict(counts))


def _counts_of_most_reviewed() -> Sequence[tuple[int, int]]:
    """Book id and number of reviews, sorted by id so that two recounts lock rows in the same order."""
    count = func.count()
    query = select(Review.book_id, count).group_by(Review.book_id).order_by(count.desc(), Review.book_id).limit(PAGE)
    return sorted((book_id, count) for book_id, count in db.session.execute(query))


def _with_title(review: Review) -> dict[str, Any]:
    return {"book": review.book.title, "rating": review.rating, "headline": review.headline}
