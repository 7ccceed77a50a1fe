"""A finding as it was received."""

from __future__ import annotations

from dataclasses import dataclass

from querywatch import semconv
from querywatch.demo.telemetry import Attributes


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as its log records tell it: of one request, or merged over `requests` of them."""

    kind: str
    attributes: Attributes
    route: str = ""
    trace_id: str = ""
    requests: int = 1

    @property
    def id(self) -> str:
        """The id that joins span event, log record and metric."""
        return str(self.attributes.get(semconv.FINDING_ID, ""))

    @property
    def key(self) -> str:
        """The culprit: a relationship, `<fingerprint>@<file>:<line>`, the route, or the pool."""
        return str(self.attributes.get(semconv.FINDING_KEY, ""))

    @property
    def severity(self) -> str:
        """`warning` or `critical`."""
        return str(self.attributes.get(semconv.SEVERITY, ""))

    @property
    def runs(self) -> int:
        """How often the query ran."""
        return int(self.attributes.get(semconv.FINDING_COUNT, 0))

    @property
    def wasted(self) -> float:
        """What the fix would save, in seconds."""
        return float(self.attributes.get(semconv.FINDING_WASTED, 0.0))

    @property
    def advice(self) -> str:
        """One sentence that names the fix."""
        return str(self.attributes.get(semconv.ADVICE, ""))

    @property
    def rank(self) -> tuple[float, bool, str]:
        """Sorts the worst finding first."""
        return -self.wasted, self.severity != "critical", self.id
