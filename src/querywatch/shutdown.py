"""The last telemetry of a process, and how long it may take.

waitress and others die of SIGTERM without running `atexit`; and where no Collector answers, the SDK alone may need a
minute to end.
"""

import atexit
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
_EXIT_PATIENCE: Final = 5.0


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
    for provider in _providers():
        if hasattr(provider, "force_flush"):
            provider.force_flush(int(_PATIENCE * 1000))


class _Exit:
    """A thread that waits for the end of the process: once that has begun, Python 3.12 starts none any more."""

    _thread: threading.Thread | None = None

    @guarded
    def limit(self) -> None:
        """Start the thread, here and in forked children."""
        if self._thread is None:
            # Handlers run in reverse order: this one before those of the SDK, whose set-up has registered them.
            atexit.register(self._end)
            os.register_at_fork(after_in_child=self._start)
            self._start()

    @guarded
    def _start(self) -> None:
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="querywatch-exit", daemon=True)
        self._thread.start()

    @guarded
    def _wait(self) -> None:
        self._begun.wait()
        for provider in _providers():
            if hasattr(provider, "shutdown"):
                provider.shutdown()

    @guarded
    def _end(self) -> None:
        """Shut the SDK down in place of its own `atexit` handlers, and wait no longer than `_EXIT_PATIENCE`."""
        if self._thread is not None and self._thread.is_alive():
            for provider in _providers():
                if hasattr(provider, "shutdown"):
                    atexit.unregister(provider.shutdown)
            self._begun.set()
            self._thread.join(_EXIT_PATIENCE)


_exit: Final = _Exit()
#: Bounds the time that the SDK takes at the end of the process.
limit_exit: Final = _exit.limit


def _providers() -> tuple[Any, ...]:
    return trace.get_tracer_provider(), get_logger_provider(), metrics.get_meter_provider()
