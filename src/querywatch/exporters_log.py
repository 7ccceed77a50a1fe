"""One warning for a Collector that can't be reached, where OpenTelemetry's exporters write about one a second."""

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from querywatch.guard import guarded

_EXPORTERS: Final = "opentelemetry.exporter.otlp.proto"
_LOGGERS: Final = (
    f"{_EXPORTERS}.http.trace_exporter",
    f"{_EXPORTERS}.http.metric_exporter",
    f"{_EXPORTERS}.http._log_exporter",
    f"{_EXPORTERS}.grpc.exporter",
    # Its queue is full when nothing can be sent.
    "opentelemetry.sdk._shared_internal",
)
#: The beginnings of what the exporters, HTTP and gRPC, write when an export fails, and of what comes of it.
_OF_A_FAILURE: Final = ("Transient error", "Failed to export", "Shutdown in progress", "Queue full")
#: The Collector has answered, and refuses: that concerns one signal and one status, and is told for each.
_REFUSED: Final = "Failed to export %s batch code"

#: Seconds between two warnings of one kind while exports fail.
REPEAT: Final = 600.0
#: Seconds without a failure after which exports work again: more than a metric interval and all attempts of an export.
RECOVERED: Final = 120.0

_SENTENCE: Final = (
    "QueryWatch: telemetry can't be sent: %s The application is not affected. What can't be sent is dropped; "
    "this is told again after 10 minutes, or when it happens anew."
)


class OnceInAWhile(logging.Filter):
    """Lets the first failure through, in a sentence of its own.

    No further one until exports have worked again or `REPEAT` seconds have passed. Shared by all exporters, as they
    mostly fail together. `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._clock = clock
        #: By kind of failure: when it was told, and when it last happened. Kinds are few: signals and statuses.
        self._failures: dict[tuple[object, ...], tuple[float, float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        return self._passes(record) is not False

    @guarded
    def _passes(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if record.levelno < logging.WARNING or not message.startswith(_OF_A_FAILURE):
            return True
        if not self._is_news(_kind(message, record.args)):
            return False
        reason = record.getMessage()
        record.msg, record.args = _SENTENCE, (reason if reason.endswith(".") else f"{reason}.",)
        return True

    def _is_news(self, kind: tuple[object, ...]) -> bool:
        now = self._clock()
        told, last = self._failures.get(kind, (-REPEAT, -REPEAT))
        is_news = kind not in self._failures or now - told >= REPEAT or now - last >= RECOVERED
        self._failures[kind] = (now if is_news else told, now)
        return is_news


def _kind(message: str, args: object) -> tuple[object, ...]:
    if message.startswith(_REFUSED) and isinstance(args, tuple) and args[1] is not None:
        return args[:2]
    return ("unreachable",)


@guarded
def install() -> None:
    """Filter the exporters' log; may be called again."""
    filters = [known for known in logging.getLogger(_LOGGERS[0]).filters if isinstance(known, OnceInAWhile)]
    once = filters[0] if filters else OnceInAWhile()
    for name in _LOGGERS:
        # A filter that is there is not added twice.
        logging.getLogger(name).addFilter(once)
