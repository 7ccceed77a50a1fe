"""What third-party applications taught: held here in the smallest form in which each of them showed it."""

import asyncio
import contextvars
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine, create_engine, text

from querywatch import callsite, pipeline, sql, testing
from querywatch.callsite import Callsite
from querywatch.settings import Settings


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return create_engine(f"sqlite:///{tmp_path / 'test.db'}")


def spans_of(application: Any, *paths: str) -> list[ReadableSpan]:
    """The spans of requests, each of which runs in a copy of the context of the one before it, which has not ended."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    installed = pipeline.install(Settings())
    assert installed is not None
    installed.watch(provider)
    contexts = [contextvars.copy_context()]

    async def handed_on(scope: Any, receive: Any, send: Any) -> None:
        contexts.append(contextvars.copy_context())
        await application(scope, receive, send)
        if len(contexts) <= len(paths):
            await request(paths[len(contexts) - 1])

    watched: Any = OpenTelemetryMiddleware(handed_on, tracer_provider=provider)

    async def request(path: str) -> None:
        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "scheme": "http", "query_string": b""}
        await asyncio.create_task(watched(scope, None, None), context=contexts[-1])

    asyncio.run(request(paths[0]))
    return [span for span in exporter.get_finished_spans() if "querywatch.query.count" in (span.attributes or {})]


def test_requests_of_one_connection_stay_apart(engine: Engine) -> None:
    """A request in a copy of the context of the one before it (MLflow on uvicorn) has its own trace and count."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        with engine.connect() as connection:
            for n in range(int(scope["path"][1:])):
                connection.execute(text("SELECT :n"), {"n": n})

    roots = spans_of(application, "/1", "/3", "/2")
    assert {(root.attributes or {})["querywatch.query.count"] for root in roots} == {1, 2, 3}
    assert len({root.context.trace_id for root in roots if root.context}) == 3
    assert [root.parent for root in roots] == [None, None, None]


def test_a_call_inside_of_a_call_is_one_request(engine: Engine) -> None:
    """An application that calls an instrumented one in its own task, or mounts it in another task, is one request."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        mounted: Any = OpenTelemetryMiddleware(inner)
        await asyncio.create_task(mounted(dict(scope), receive, send))
        await mounted({key: value for key, value in scope.items() if not key.startswith("querywatch")}, receive, send)

    (root,) = spans_of(outer, "/")
    assert (root.attributes or {})["querywatch.query.count"] == 2


def line_of(*files: str) -> Callsite | None:
    """The line that is found on a stack of functions which lie in `files`, the innermost last."""
    call: Any = callsite.find
    for file in reversed(files):
        code = compile("def run():\n    return call()", file, "exec").co_consts[0]
        call = FunctionType(code, {"call": call, "__name__": "module"})

    def entry() -> Callsite | None:
        found: Callsite | None = call()
        return found

    callsite.stop_at(entry)
    return entry()


SITE = "/srv/env/lib/python3.11/site-packages"
BUILDER, LOGIN = f"{SITE}/flask_appbuilder/views.py", f"{SITE}/flask_login/utils.py"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([f"{SITE}/flask/app.py", BUILDER, f"{SITE}/flask_sqlalchemy/query.py"], BUILDER),
        ([f"{SITE}/sentry_sdk/wsgi.py", LOGIN, BUILDER, f"{SITE}/sqlalchemy/orm/query.py"], BUILDER),
        ([f"{SITE}/shop/views.py", BUILDER], f"{SITE}/shop/views.py"),
        (["/srv/shop/views.py", f"{SITE}/plugin/views.py", BUILDER], "/srv/shop/views.py"),
        ([f"{SITE}/sentry_sdk/wsgi.py", f"{SITE}/flask/app.py", f"{SITE}/wtforms_sqlalchemy/fields.py"], None),
    ],
    ids=["extension", "nearest extension", "installed application", "application", "frameworks only"],
)
def test_the_line_of_an_extensions_own_view(files: list[str], expected: str | None) -> None:
    """Where only an extension's own views run (Flask-AppBuilder) its nearest line is named, else the application's."""
    found = line_of(*files)
    assert (found and found.file) == expected


def test_equal_code_in_two_files_keeps_its_line() -> None:
    """Two files with the same function on the same line (copied modules) are told apart."""
    files = [f"/srv/shop/{name}.py" for name in ("authors", "books")]
    assert [found.file for file in files if (found := line_of(file))] == files


@pytest.mark.parametrize(
    ("statement", "column"),
    [
        ("SELECT id FROM resolver WHERE lower(resolver.name) = ?", ""),
        ("SELECT id FROM resolver WHERE lower(name) = ? AND realm_id = ?", "realm_id"),
        ('SELECT id FROM config WHERE config."Key" = ?', "config.Key"),
    ],
)
def test_advice_names_a_column_or_none(statement: str, column: str) -> None:
    """The column in the advice is one that is compared itself, not what a function makes of it (privacyIDEA)."""
    assert sql.analyse(statement).column == column


def test_the_advice_on_deletes_without_a_column_is_a_sentence(engine: Engine) -> None:
    """A loop of DELETEs that match by LIKE (MLflow) is not told to use in_() on nothing."""
    with testing.watch() as watched, engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (about TEXT)"))
        for n in range(6):
            connection.execute(text("DELETE FROM notes WHERE about LIKE '%' || :n"), {"n": str(n)})
    (finding,) = watched.findings
    assert finding.advice == "Delete the rows together: one delete(notes).where(…) that names them all instead of 6."
