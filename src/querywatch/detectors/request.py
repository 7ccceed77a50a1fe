"""The request as a whole: too many queries, too long."""

from collections.abc import Iterator, Sequence

from querywatch.findings import Finding, Kind, Severity
from querywatch.window import Window


def detect(window: Window, elapsed: float, queries: Sequence[Finding]) -> Iterator[Finding]:
    """Yield `query_volume` and `slow_request`; `queries` are the findings on its queries, the worst first."""
    settings = window.settings
    key = window.route or "unknown route"
    if window.queries > settings.max_queries_per_request:
        yield _volume(window, key, queries)
    if elapsed > settings.slow_request_threshold:
        yield _slow(window, key, elapsed, queries)


def _volume(window: Window, key: str, queries: Sequence[Finding]) -> Finding:
    distinct = len({group.statement.fingerprint for group in tuple(window.groups.values())})
    maximum = window.settings.max_queries_per_request
    worst = _worst(queries, "join or batch those that read the same tables, cache what seldom changes.")
    return Finding(
        kind=Kind.QUERY_VOLUME,
        key=key,
        severity=Severity.WARNING,
        count=window.queries,
        distinct=distinct,
        duration=window.duration,
        wasted=window.excess,
        advice=f"{window.queries} queries of {distinct} kinds in one request (maximum {maximum}): {worst}",
        callsite=window.callsite,
    )


def _slow(window: Window, key: str, elapsed: float, queries: Sequence[Finding]) -> Finding:
    share = min(window.duration / elapsed, 1.0)
    took = f"{share:.0%} of {elapsed:.2f} s went to {_count(window.queries)}: "
    if share < 0.5:
        advice = took + "profile the application's own code, the database is not what makes it wait."
    else:
        advice = took + _worst(queries, "make them fewer or faster.")
    return Finding(
        kind=Kind.SLOW_REQUEST,
        key=key,
        severity=Severity.WARNING,
        count=1,
        distinct=1,
        duration=elapsed,
        wasted=elapsed - window.settings.slow_request_threshold,
        advice=advice,
        callsite=window.callsite,
    )


def _count(queries: int) -> str:
    return "1 query" if queries == 1 else f"{queries} queries"


def _worst(queries: Sequence[Finding], otherwise: str) -> str:
    if not queries:
        return otherwise
    worst = queries[0]
    where = worst.key if worst.callsite is None else worst.callsite.place
    return f"begin with the {worst.kind} at {where}."
