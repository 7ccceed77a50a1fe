"""Runs one application again and again, each time with another callback of QueryWatch that raises.

`python -m e2e.faults DIRECTORY [NAME…]` prints a JSON object: by the name of the callback what `scenario` has seen.
`plain` stands for the application without OpenTelemetry, `healthy` for all callbacks intact. Each run is a fork.
"""

import asyncio
import atexit
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastapi
import flask
import httpx
import sqlalchemy
from opentelemetry import metrics
from opentelemetry.exporter.http.transport._requests import RequestsHTTPTransport
from opentelemetry.instrumentation.auto_instrumentation import initialize
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from e2e.callbacks import GUARDED
from e2e.models import Author, Book, fill
from querywatch.instrumentor import QueryWatchInstrumentor
from querywatch.pool import watch


class InjectedError(Exception):
    """What the callback raises that is broken on purpose."""


class Notes(logging.Handler):
    """Notes calls and log messages, one in a line of a file that forked processes write as well."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        self.note(record.getMessage())

    def note(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{line}\n")

    def read(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


def break_callback(name: str, notes: Notes) -> None:
    """Put a function that raises into the place where the guard keeps the callback."""

    def broken(*_: Any, **__: Any) -> None:
        notes.note("called")
        raise InjectedError(name)

    guard: Any = GUARDED[name]
    guard.__closure__[guard.__code__.co_freevars.index("callback")].cell_contents = broken


def application(engine: Engine) -> flask.Flask:
    app = flask.Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get("/authors")
    def authors() -> str:
        with Session(engine) as session:
            return ",".join(book.title for author in session.scalars(select(Author)) for book in author.books)

    @app.get("/stream")
    def stream() -> flask.Response:
        def body() -> Iterator[str]:
            with Session(engine) as session:
                for author in session.scalars(select(Author)):
                    yield author.books[0].title

        return flask.Response(body())

    add_leak(app, engine)

    @app.get("/fails")
    def fails() -> str:
        with Session(engine) as session:
            session.add(Author(name="Author 1"))
            session.commit()
        return "created"

    @app.post("/authors")
    def add() -> str:
        with Session(engine) as session:
            for number in range(6):
                session.add(Author(name=f"New {number}", books=[Book(title="First")]))
                session.flush()
            session.commit()
        return "created"

    return app


def add_leak(app: flask.Flask, engine: Engine) -> None:
    @app.get("/leak")
    def leak() -> str:
        connection = app.extensions["kept"] = engine.connect()
        return str(connection.scalar(text("SELECT 42")))


def scenario(make: Callable[[], Engine], start: Callable[[], None]) -> Iterator[Any]:
    """Everything that the application answers, raises and writes, as plain values."""
    before = make()
    start()
    importlib.import_module("sqlalchemy.ext.asyncio")
    app = application(before)
    client = app.test_client()
    for path in ("/authors", "/stream"):
        # Buffered: the body is read and closed before the next request comes, as servers do it.
        answer = client.get(path, buffered=True)
        yield [answer.status_code, dict(answer.headers), answer.text]
    yield client.post("/authors").text
    try:
        client.get("/fails")
    except IntegrityError as error:
        yield [type(error).__qualname__, str(error)]
    yield from at_the_pool(app)
    yield from outside_of_flask(make())
    yield end_of_a_child()
    with before.connect() as connection:
        yield [list(row) for row in connection.execute(text("SELECT a.id, name, title FROM authors a, books b"))]


def at_the_pool(app: flask.Flask) -> Iterator[Any]:
    """A connection left behind, a database that is not there, time for the pool's watch, and a reader of metrics."""
    yield app.test_client().get("/leak", buffered=True).text
    app.extensions["kept"].close()
    try:
        sqlalchemy.create_engine("sqlite:////there/is/no/such.db").connect()
    except OperationalError as error:
        yield [type(error).__qualname__, str(error)]
    time.sleep(20 * watch._INTERVAL)
    provider: Any = metrics.get_meter_provider()
    if isinstance(provider, MeterProvider):
        provider.add_metric_reader(reader := InMemoryMetricReader())
        reader.collect()
        # Nobody listens there.
        RequestsHTTPTransport().request("POST", "http://127.0.0.1:1/", timeout=1)


def outside_of_flask(engine: Engine) -> Iterator[Any]:
    """The same engine in an ASGI application and in a script; an exporter that fails; the end of instrumentation."""
    asgi_app = fastapi.FastAPI()

    @asgi_app.get("/authors/{number}")
    def author(number: int) -> str:
        with Session(engine) as session:
            return session.get_one(Author, number).name

    yield asyncio.run(ask(asgi_app, "/authors/3"))
    with engine.connect() as connection:
        yield connection.scalar(text("SELECT count(*) FROM authors"))
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").warning("Transient error")
    QueryWatchInstrumentor().uninstrument()
    with Session(engine) as session:
        yield session.get_one(Author, 1).name


async def ask(app: fastapi.FastAPI, path: str) -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        return (await client.get(path)).json()


def end_of_a_child() -> int:
    """The status of a forked process that SIGTERM ends."""
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    return os.waitpid(child, 0)[1]


def run(name: str, directory: Path) -> None:
    """Run the scenario in this process and write its report when everything else has ended."""
    os.environ |= {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    os.environ |= {"QUERYWATCH_POOL_PROFILE": "production", "QUERYWATCH_POOL_RECOVERY": "true"}
    vars(watch)["_INTERVAL"] = 0.01
    seen: list[Any] = []
    notes = Notes(directory / f"{name}.notes")
    process = os.getpid()

    def report() -> None:
        if os.getpid() == process:
            (directory / name).write_text(json.dumps({"seen": seen, "notes": notes.read()}))

    # Registered first, so it runs last.
    atexit.register(report)
    logging.getLogger("querywatch").addHandler(notes)
    url = f"sqlite:///{directory}/{name}.db"
    shutil.copy(directory / "filled.db", directory / f"{name}.db")
    if name in GUARDED:
        break_callback(name, notes)
    seen.extend(
        scenario(lambda: sqlalchemy.create_engine(url), start=(lambda: None) if name == "plain" else initialize)
    )


def main(directory: Path, names: list[str]) -> None:
    reports = {}
    fill(f"sqlite:///{directory}/filled.db")
    for name in ("plain", "healthy", *(names or GUARDED)):
        child = os.fork()
        if child == 0:
            run(name, directory)
            sys.exit(3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        written = directory / name
        reports[name] = {"status": status, **(json.loads(written.read_text()) if written.exists() else {})}
    sys.stdout.write(json.dumps(reports))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
