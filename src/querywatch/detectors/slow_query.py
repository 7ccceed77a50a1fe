"""Queries that last longer than the slow or the critical threshold."""

from collections.abc import Iterator

from querywatch.findings import Finding, Kind, Severity
from querywatch.settings import Settings
from querywatch.window import SlowRuns, Window


def is_slow(duration: float, settings: Settings) -> bool:
    """Tell whether a query of `duration` seconds is over the slow threshold."""
    return duration > settings.slow_query_threshold


def is_critical(duration: float, settings: Settings) -> bool:
    """Tell whether a query of `duration` seconds is over the critical threshold."""
    return duration > settings.critical_query_threshold


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding for each statement and line that had slow runs."""
    settings = window.settings
    for key, runs in tuple(window.slow.items()):
        critical = is_critical(runs.longest, settings)
        yield Finding(
            kind=Kind.SLOW_QUERY,
            key=key,
            severity=Severity.CRITICAL if critical else Severity.WARNING,
            count=runs.runs,
            distinct=len(runs.subjects),
            duration=runs.duration,
            wasted=runs.duration - runs.runs * settings.slow_query_threshold,
            advice=_advice(runs),
            callsite=runs.callsite,
        )


def _advice(runs: SlowRuns) -> str:
    took = f"One run took {runs.longest:.2f} s"
    if runs.statement.is_write:
        return f"{took}: look for lock waits, and for an index on what its WHERE names."
    return f"{took}: run EXPLAIN ANALYZE on it and look for full scans, missing indexes and work repeated for each row."
