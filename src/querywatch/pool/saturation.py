"""When a pool is full enough to say so: over a threshold, once, until it has been well below for a while."""

from typing import Final

from querywatch.findings import Severity
from querywatch.settings import Settings

#: How far utilisation must fall below a threshold, and for how many seconds, before passing it counts anew. Both are
#: needed: one connection of a pool of five is a fifth of it.
HYSTERESIS: Final = 0.10
CALM: Final = 30.0


class Saturation:
    """The level of one pool. Pure: the clock is the caller's."""

    def __init__(self, settings: Settings) -> None:
        self._thresholds = {Severity.WARNING: settings.pool_warning, Severity.CRITICAL: settings.pool_critical}
        self.level: Severity | None = None
        self._calm_since: float | None = None

    def observe(self, utilization: float, now: float, *, timed_out: bool = False) -> Severity | None:
        """Return the severity of a finding where the level rises, None otherwise. `now` is seconds of any clock.

        A checkout that timed out is critical at whatever utilisation. Thresholds compare strictly.
        """
        reached = Severity.CRITICAL if timed_out else self._reached(utilization)
        if reached is not None and (self.level is None or reached.rank > self.level.rank):
            self.level = reached
            self._calm_since = None
            return reached
        self._calm_down(utilization, now)
        return None

    def _reached(self, utilization: float) -> Severity | None:
        over = [severity for severity, threshold in self._thresholds.items() if utilization > threshold]
        return over[-1] if over else None

    def _calm_down(self, utilization: float, now: float) -> None:
        if self.level is None or utilization > max(self._thresholds[self.level] - HYSTERESIS, 0.0):
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= CALM:
            self.level = self._reached(utilization)
            self._calm_since = None
