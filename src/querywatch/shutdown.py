"""The last telemetry of a server that is told to end: waitress and others die of SIGTERM without running `atexit`."""

import os
import signal
import threading
from types import FrameType
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider

from querywatch.guard import guarded

#: Seconds the end of the process may be put off.
_PATIENCE: Final = 3.0


@guarded
def flush_on_sigterm() -> None:
    """Flush before SIGTERM ends the process, where nobody else handles that signal."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _flush_and_end)


def _flush_and_end(number: int, frame: FrameType | None) -> None:
    # In a thread: the interrupted main thread may hold a lock that the flush needs.
    flush = threading.Thread(target=_flush, name="querywatch-flush", daemon=True)
    flush.start()
    flush.join(_PATIENCE)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@guarded
def _flush() -> None:
    providers: tuple[Any, ...] = (trace.get_tracer_provider(), get_logger_provider(), metrics.get_meter_provider())
    for provider in providers:
        if hasattr(provider, "force_flush"):
            provider.force_flush(int(_PATIENCE * 1000))
