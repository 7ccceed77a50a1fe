"""Strange statements: `python -m e2e.statements plain|watched` prints what became of each, as JSON."""

import json
import os
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Connection, create_engine

import querywatch

STATEMENTS: dict[str, Any] = {
    "empty": "",
    "blank": "  \n\t",
    "a comment": "-- nothing",
    "a comment without end": "SELECT 1 /* and",
    "a quote without end": "SELECT 'and",
    "no SQL": "\x00 ☃ ))) ;;; ẞ",
    "bytes": b"SELECT 2",
    "huge": f"SELECT 3 AS found /* {'x' * 10_000_000} */",
    "a huge literal": f"SELECT length('{'y' * 1_000_000}')",
    "many tokens": f"SELECT {' + '.join('1' * 400)}",
    "two statements": "SELECT 1; SELECT 2",
}


def outcome(connection: Connection, statement: Any) -> list[Any]:
    try:
        with connection.begin():
            result = connection.exec_driver_sql(statement)
            return [list(row) for row in result] if result.returns_rows else []
    except Exception as error:  # noqa: BLE001 - whatever the driver raises is the outcome
        return [type(error).__qualname__, str(error)[:500]]


def main(mode: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    if mode == "watched":
        querywatch.instrument()
    engine = create_engine(os.environ["DATABASE_URL"])
    with provider.get_tracer("script").start_as_current_span("all"), engine.connect() as connection:
        outcomes = {name: outcome(connection, statement) for name, statement in STATEMENTS.items()}
    tagged = [s for s in exporter.get_finished_spans() if "querywatch.query.fingerprint" in (s.attributes or {})]
    longest = max((len(str(value)) for span in tagged for key, value in (span.attributes or {}).items()), default=0)
    sys.stdout.write(json.dumps({"outcomes": outcomes, "tagged": len(tagged), "longest": longest}))


if __name__ == "__main__":
    main(sys.argv[1])
