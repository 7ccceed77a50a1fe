"""What is found: the immutable results that detectors return and outputs carry away."""

import enum
import hashlib
from dataclasses import dataclass
from typing import Final

from querywatch import semconv
from querywatch.callsite import Callsite


class Severity(enum.StrEnum):
    """How bad a finding is. Ordered: `Severity.CRITICAL.rank > Severity.WARNING.rank`."""

    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for a warning, 1 for critical."""
        return int(self is Severity.CRITICAL)


class Kind(enum.StrEnum):
    """The kinds of finding: of a request, and of a connection pool."""

    SLOW_QUERY = "slow_query"
    N_PLUS_ONE = "n_plus_one"
    REDUNDANT_QUERY = "redundant_query"
    QUERY_VOLUME = "query_volume"
    SLOW_REQUEST = "slow_request"
    CONNECTION_LEAK = "connection_leak"
    POOL_SATURATION = "pool_saturation"

    @property
    def event_name(self) -> str:
        """Name of the span event and of the log record."""
        return EVENT_NAMES[self]


EVENT_NAMES: Final = {
    Kind.SLOW_QUERY: semconv.EVENT_SLOW_QUERY,
    Kind.N_PLUS_ONE: semconv.EVENT_N_PLUS_ONE,
    Kind.REDUNDANT_QUERY: semconv.EVENT_REDUNDANT_QUERY,
    Kind.QUERY_VOLUME: semconv.EVENT_QUERY_VOLUME,
    Kind.SLOW_REQUEST: semconv.EVENT_SLOW_REQUEST,
    Kind.CONNECTION_LEAK: semconv.EVENT_CONNECTION_LEAK,
    Kind.POOL_SATURATION: semconv.EVENT_POOL_SATURATION,
}


def finding_id(kind: str, key: str) -> str:
    """Return 16 hex digits, equal for equal kind and key in every process and deployment."""
    return hashlib.blake2b(f"{kind}\0{key}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one request.

    `key` names the culprit: a relationship (`Author.books`), `<fingerprint>@<file>:<line>`, the route, or the pool.
    `count` is the number of runs, `distinct` the number of distinct parents or parameter sets. `duration` (all runs)
    and `wasted` (what the fix would save) are seconds. `callsite` is the application's line, None where there is none.
    """

    kind: Kind
    key: str
    severity: Severity
    count: int
    distinct: int
    duration: float
    wasted: float
    advice: str
    callsite: Callsite | None = None

    @property
    def id(self) -> str:
        """16 hex digits that join span event, log record, store and alert of this finding."""
        return finding_id(self.kind, self.key)

    def attributes(self) -> dict[str, str | int | float]:
        """Return the finding as OpenTelemetry attributes."""
        attributes: dict[str, str | int | float] = {
            semconv.FINDING_ID: self.id,
            semconv.FINDING_KEY: self.key,
            semconv.SEVERITY: self.severity.value,
            semconv.FINDING_COUNT: self.count,
            semconv.FINDING_DISTINCT: self.distinct,
            semconv.FINDING_DURATION: self.duration,
            semconv.FINDING_WASTED: self.wasted,
            semconv.ADVICE: self.advice,
        }
        if self.callsite is not None:
            attributes |= self.callsite.attributes()
        return attributes

    def __str__(self) -> str:
        """One line for people: what, where, and the fix."""
        where = f" at {self.callsite.place}" if self.callsite is not None else ""
        runs = "1 run" if self.count == 1 else f"{self.count} runs"
        return f"{self.kind} {self.key}{where}: {runs}, {self.wasted * 1000:.1f} ms wasted. {self.advice}"
