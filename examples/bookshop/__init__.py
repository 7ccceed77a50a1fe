"""The bookshop: a Flask + SQLAlchemy application with well-known performance mistakes, each beside its fix.

    cd examples
    flask --app bookshop run

The factory is imported on the first call, so that `bookshop.tour` and `bookshop.load` need no Flask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app"]


def create_app(database_url: str | None = None) -> Flask:
    """Return the application on `database_url`, else on `DATABASE_URL`, else on a SQLite file in `./instance`."""
    from bookshop.factory import build

    return build(database_url)
