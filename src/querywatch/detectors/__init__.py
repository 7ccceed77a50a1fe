"""The detectors: a window in, findings out. Pure: no I/O, no OpenTelemetry, no clock."""

from querywatch.detectors import n_plus_one, request, slow_query
from querywatch.findings import Finding
from querywatch.window import Window

#: Findings of one request that are published; the worst ones. A span keeps 128 events by default, the host's included.
MAX_FINDINGS = 64


def detect(window: Window, elapsed: float) -> list[Finding]:
    """Return what is wrong with the request of `window`, which has lasted `elapsed` seconds; most wasted time first."""
    queries = [*slow_query.detect(window), *n_plus_one.detect(window)]
    queries.sort(key=lambda finding: -finding.wasted)
    found = [*request.detect(window, elapsed, queries), *queries]
    return [finding for finding in found if not _ignored(finding, window)][:MAX_FINDINGS]


def _ignored(finding: Finding, window: Window) -> bool:
    return window.settings.ignores(finding.key, finding.key.partition("@")[0], window.route)


__all__ = ["MAX_FINDINGS", "detect"]
