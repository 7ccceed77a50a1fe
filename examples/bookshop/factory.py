"""Puts the application together: configuration, database, blueprints, the `seed` command."""

from __future__ import annotations

import os
from pathlib import Path

import click
from flask import Flask, jsonify
from flask.cli import with_appcontext
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.pool import StaticPool
from werkzeug.exceptions import HTTPException

from bookshop import seed
from bookshop.models import Author, db
from bookshop.views import catalogue, customers, office, orders, reports, reviews, storefront

DEFAULT_DATABASE = "sqlite:///bookshop.db"  # relative to the instance folder


def build(database_url: str | None = None) -> Flask:
    """Return the application with its tables made and, when they are empty, filled."""
    # The package's own folder may be read-only (it can be installed): the instance folder is the caller's.
    app = Flask("bookshop", static_folder=None, instance_path=str(Path.cwd() / "instance"))
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url or os.environ.get("DATABASE_URL") or DEFAULT_DATABASE
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_logging_name": "shop"}
    app.config.from_prefixed_env("BOOKSHOP")
    if app.config.get("POOL_TROUBLE"):
        _open_the_office(app)
    db.init_app(app)
    app.register_blueprint(storefront.pages)
    for module in (catalogue, orders, customers, reviews, reports):
        app.register_blueprint(module.api, url_prefix=f"/api/client/{module.api.name}")
    app.register_error_handler(HTTPException, _error_as_json)
    app.cli.add_command(_seed_command)
    with app.app_context():
        _fill_when_empty()
    return app


def _open_the_office(app: Flask) -> None:
    """Add the routes that get connections into trouble, on an engine and a pool of their own."""
    app.config["SQLALCHEMY_BINDS"] = {office.BIND: {"url": app.config["SQLALCHEMY_DATABASE_URI"], **office.POOL}}
    app.register_blueprint(office.api, url_prefix="/api/office")


def _fill_when_empty() -> None:
    db.create_all(bind_key=None)
    if db.session.scalar(select(Author.id).limit(1)) is None:
        seed.fill(db.session())
    db.session.remove()
    if not isinstance(db.engine.pool, StaticPool):  # which holds an in-memory database
        db.engine.dispose()  # a server may fork its workers next: they must not share a connection


def _error_as_json(error: HTTPException) -> ResponseReturnValue:
    return jsonify(error=error.name, detail=error.description), error.code or 500


@click.command("seed")
@with_appcontext
def _seed_command() -> None:
    """Drop every table of the bookshop and fill them again with the same rows."""
    db.drop_all(bind_key=None)
    db.create_all(bind_key=None)
    for table, rows in seed.fill(db.session()).items():
        click.echo(f"{rows:7,} {table}")
