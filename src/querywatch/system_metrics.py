"""CPU and memory of process and host, garbage collection and threads, by OpenTelemetry's own instrumentation.

Left to itself that records thirty metrics, hundreds of series on a large host; here are those that a dashboard shows.
"""

import os
from fnmatch import fnmatch
from typing import Any, Final

from querywatch.guard import guarded
from querywatch.settings import Settings

#: The name under which `opentelemetry-instrument` finds that instrumentation.
ENTRY_POINT: Final = "system_metrics"

_EXCLUDED: Final = "OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS"

#: Its metrics, each with the states that it tells apart.
METRICS: Final[dict[str, list[str] | None]] = {
    "process.cpu.time": ["user", "system"],
    "process.memory.usage": None,
    "process.thread.count": None,
    "cpython.gc.collections": None,
    "system.cpu.time": ["user", "system", "iowait", "idle"],
    "system.memory.utilization": ["used"],
}


@guarded
def install(settings: Settings) -> None:
    """Record them, unless the settings say no or somebody else records such metrics already."""
    if not (settings.enabled and settings.system_metrics):
        return
    # Off means absent: imported only here.
    from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor

    # There is one instance, and making it again would change its metrics under its running callbacks.
    if getattr(SystemMetricsInstrumentor._instance, "is_instrumented_by_opentelemetry", False):
        return
    instrumentor = SystemMetricsInstrumentor(config=_chosen())
    instrumentor.instrument()
    os.register_at_fork(after_in_child=lambda: _follow(instrumentor))


def _chosen() -> dict[str, list[str] | None]:
    """Return the metrics that the user has not excluded by OpenTelemetry's own variable for that."""
    excluded = [pattern.strip() for pattern in os.environ.get(_EXCLUDED, "").split(",")]
    return {name: states for name, states in METRICS.items() if not any(fnmatch(name, each) for each in excluded)}


@guarded
def _follow(instrumentor: Any) -> None:
    """Measure this process: a forked worker would go on to tell of its parent (contrib 0.66b1)."""
    import psutil

    instrumentor._proc = psutil.Process()
