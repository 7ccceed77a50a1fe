"""For tests of applications: run code, get the findings.

with querywatch.testing.watch() as watched:
client.get("/authors")
assert watched.findings == [], watched
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from querywatch import pipeline, spans
from querywatch.findings import Finding
from querywatch.settings import Settings


@dataclasses.dataclass(slots=True)
class Watched:
    """What the watched code did. Complete when the block has ended; `duration` is seconds, the sum of all queries."""

    findings: list[Finding] = dataclasses.field(default_factory=list)
    queries: int = 0
    duration: float = 0.0

    def __str__(self) -> str:
        """One line for each finding, with its place and its fix."""
        head = f"{self.queries} queries, {len(self.findings)} findings"
        return "\n".join([head, *(f"- {finding}" for finding in self.findings)])


@contextmanager
def watch(settings: Settings | None = None, **changes: Any) -> Iterator[Watched]:
    """Watch a block as if it were one request: all its queries, those of requests to a test client included.

    Starts from `settings`, or the defaults, with `changes` to single fields (`n_plus_one_threshold=3`). Environment
    variables do not count, so that a test means the same everywhere. No OpenTelemetry SDK is needed. Other threads
    belong to the block when they carry its context.
    """
    chosen = dataclasses.replace(settings or Settings(), **changes)
    installed = pipeline.install(Settings())
    if installed is None:
        raise RuntimeError("QueryWatch is installed with enabled=False: there is nothing to watch with")
    request = spans.Request(chosen)
    watched = Watched()
    token = spans.enter(request)
    try:
        yield watched
    finally:
        spans.leave(token)
        request.window.close()
        watched.findings = request.detect()
        watched.queries = request.window.queries
        watched.duration = request.window.duration
