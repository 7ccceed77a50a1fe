"""Books and authors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload, undefer

from bookshop.models import Author, Book, db

api = Blueprint("catalogue", __name__)

PAGE = 12
BOOKS = select(Book).options(joinedload(Book.author)).order_by(Book.id).limit(PAGE)
AUTHORS = select(Author).order_by(Author.id).limit(PAGE)


def _offset() -> int:
    return PAGE * (max(1, request.args.get("page", 1, type=int)) - 1)


@api.get("/books")
def books() -> Response:
    """A page of the catalogue."""
    return jsonify([_book(book) for book in db.session.scalars(BOOKS.offset(_offset()))])


@api.get("/books/<int:book_id>")
def book(book_id: int) -> Response:
    """One book with everything the shop knows about it."""
    options = (joinedload(Book.author), joinedload(Book.publisher), selectinload(Book.genres))
    found = db.get_or_404(Book, book_id, options=options)
    genres = [genre.name for genre in found.genres]
    return jsonify(_book(found) | {"genres": genres, "pages": found.pages, "publisher": found.publisher.name})


@api.get("/authors")
def authors() -> Response:
    """Wrong: every author's books are loaded one author at a time, when `author.books` is touched."""
    found = db.session.scalars(AUTHORS.offset(_offset())).all()
    return jsonify(_with_books(found))


@api.get("/authors/fixed")
def authors_fixed() -> Response:
    """Right: one more query brings the books of the whole page."""
    found = db.session.scalars(AUTHORS.offset(_offset()).options(selectinload(Author.books))).all()
    return jsonify(_with_books(found))


@api.get("/biographies")
def biographies() -> Response:
    """Wrong: `Author.bio` is deferred, so that each access goes to the database."""
    found = db.session.scalars(AUTHORS.offset(_offset())).all()
    return jsonify([{"name": author.name, "bio": author.bio} for author in found])


@api.get("/biographies/fixed")
def biographies_fixed() -> Response:
    """Right: this page needs the deferred column, and says so."""
    found = db.session.scalars(AUTHORS.offset(_offset()).options(undefer(Author.bio))).all()
    return jsonify([{"name": author.name, "bio": author.bio} for author in found])


def _book(book: Book) -> dict[str, Any]:
    return {
        "id": book.id,
        "isbn": book.isbn,
        "title": book.title,
        "author": book.author.name,
        "price_cents": book.price_cents,
        "in_stock": book.stock > 0,
    }


def _with_books(authors: Sequence[Author]) -> list[dict[str, Any]]:
    return [{"name": author.name, "books": [book.title for book in author.books]} for author in authors]
