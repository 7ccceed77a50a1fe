"""Programs that set their SDK up themselves. `python -m e2e.own_sdk SCENARIO` prints what was seen, as JSON."""

import gc
import importlib
import json
import os
import sys
import weakref
from typing import Any

import flask
from flask_sqlalchemy import SQLAlchemy
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.orm import Session
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

import querywatch
from e2e.models import Author
from querywatch.hooks import adopt

URL = os.environ["DATABASE_URL"]


def exporting() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def application(name: str, engine: Engine) -> flask.Flask:
    app = flask.Flask(name)

    @app.get(f"/{name}")
    def authors() -> str:
        with Session(engine) as session:
            return ",".join(book.title for author in session.scalars(select(Author)) for book in author.books)

    return app


def with_flask_sqlalchemy() -> flask.Flask:
    app = flask.Flask("extension")
    app.config["SQLALCHEMY_DATABASE_URI"] = URL
    db = SQLAlchemy(app)

    @app.get("/extension")
    def authors() -> str:
        return ",".join(book.title for author in db.session.scalars(select(Author)) for book in author.books)

    return app


def summary(spans: tuple[ReadableSpan, ...]) -> dict[str, Any]:
    """By request: its findings, its queries as counted, and its database spans."""
    requests = {}
    for span in spans:
        if span.kind is not trace.SpanKind.SERVER:
            continue
        mine = [s for s in spans if s.context.trace_id == span.context.trace_id and s.name.startswith("SELECT")]
        attributes = dict(span.attributes or {})
        requests[span.name] = [
            [event.name for event in span.events],
            attributes.get("querywatch.query.count"),
            len(mine),
            sum("querywatch.query.fingerprint" in (s.attributes or {}) for s in mine),
        ]
    return requests


def several() -> dict[str, Any]:
    """Engines and applications of before and after, and one `instrument()` after the other."""
    old_engine = create_engine(URL)
    old = application("old", old_engine)
    extension = with_flask_sqlalchemy()
    exporter = exporting()
    for _ in range(3):
        querywatch.instrument()
    new = application("new", create_engine(URL))
    querywatch.instrument()
    client = Client(DispatcherMiddleware(old, {"/sub": new, "/ext": extension}))
    answers = {client.get(path).get_data(as_text=True) for path in ("/old", "/sub/new", "/ext/extension")}
    return {"answers": len(answers), **summary(exporter.get_finished_spans())}


def engines_of_requests() -> dict[str, Any]:
    """An engine for each request, disposed or not: what is left of 50 of them."""
    exporting()
    querywatch.instrument()
    registry: Any = importlib.import_module("sqlalchemy.event.registry")
    engines: weakref.WeakSet[Engine] = weakref.WeakSet()
    app = flask.Flask("leaky")

    @app.get("/<int:dispose>")
    def own_engine(dispose: int) -> str:
        engine = create_engine(URL)
        engines.add(engine)
        with Session(engine) as session:
            name = session.get_one(Author, 1).name
        if dispose:
            engine.dispose()
        return name

    def sizes() -> list[int]:
        gc.collect()
        return [len(engines), len(adopt._traced), len(registry._key_to_collection), len(registry._collection_to_key)]

    client = app.test_client()
    client.get("/0")
    before = sizes()
    for number in range(50):
        client.get(f"/{number % 2}")
    return {"before": before, "after": sizes(), "alive": [repr(engine) for engine in engines]}


def uninstrumented() -> dict[str, Any]:
    """Listeners of the whole class, before `instrument()` and after everything was taken back."""
    from querywatch import pipeline

    exporting()
    before = event.contains(Engine, "engine_connect", adopt._on_connect)
    querywatch.instrument()
    between = event.contains(Engine, "engine_connect", adopt._on_connect)
    pipeline.uninstall()
    after = event.contains(Engine, "engine_connect", adopt._on_connect)
    return {"contains": [before, between, after]}


if __name__ == "__main__":
    scenarios = {f.__name__: f for f in (several, engines_of_requests, uninstrumented)}
    sys.stdout.write(json.dumps(scenarios[sys.argv[1]]()))
