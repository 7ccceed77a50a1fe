"""The shop window, rendered by a template."""

from __future__ import annotations

from flask import Blueprint, render_template
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from bookshop.models import Book, db

pages = Blueprint("storefront", __name__)

NEWEST = select(Book).options(joinedload(Book.author)).order_by(Book.published_on.desc(), Book.id).limit(12)


@pages.get("/")
def window() -> str:
    """Wrong, but it does not show here: the template touches `book.genres` of every book."""
    return render_template("storefront.html", books=db.session.scalars(NEWEST).all())


@pages.get("/fixed")
def window_fixed() -> str:
    """Right: the view loads what its template shows."""
    found = db.session.scalars(NEWEST.options(selectinload(Book.genres))).all()
    return render_template("storefront.html", books=found)
