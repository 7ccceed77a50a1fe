"""A program without a web framework: it opens spans of its own, and sends queries outside of any.

`python e2e/script.py` does it under the wrapper; `DATABASE_URL` names a database that `models.fill` has filled.
"""

import os

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from e2e.models import Author

engine = create_engine(os.environ["DATABASE_URL"])
tracer = trace.get_tracer("script")


def work() -> None:
    with Session(engine) as session:
        for author in session.scalars(select(Author)):
            len(author.books)


def consume(number: int, *, sampled: bool) -> None:
    """Work on a message that somebody else has sent in a trace of his own."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    sender = NonRecordingSpan(SpanContext(number, 7, is_remote=True, trace_flags=flags))
    with tracer.start_as_current_span("message", trace.set_span_in_context(sender), SpanKind.CONSUMER):
        work()


if __name__ == "__main__":
    work()
    with tracer.start_as_current_span("nightly job"):
        work()
    consume(0xA, sampled=True)
    consume(0xB, sampled=False)
