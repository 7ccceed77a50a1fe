"""Never break the host: every callback that the host calls goes through one guard."""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger("querywatch")

#: Every guarded callback by its dotted name: the fault injection test goes through this table.
GUARDED: Final[dict[str, Callable[..., Any]]] = {}

#: Under pytest a bug of ours stays loud; pytest sets this variable for itself and its child processes.
reraise = "PYTEST_VERSION" in os.environ

_MAX_KINDS = 100
_seen: set[tuple[str, str]] = set()


def guarded(callback: Callable[P, T]) -> Callable[P, T | None]:
    """Return `callback` such that none of its exceptions reaches the host: it then returns None.

    The first error of each kind (callback and exception type) is logged with its traceback, later ones are not.
    BaseExceptions that are no Exceptions (KeyboardInterrupt, greenlet's exit, a server's time-out) pass through.
    """
    name = f"{callback.__module__}.{callback.__qualname__}"

    @functools.wraps(callback)
    def safe(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return callback(*args, **kwargs)
        except Exception as error:
            if reraise:
                raise
            _log_once(name, error)
            return None

    GUARDED[name] = safe
    return safe


def _log_once(name: str, error: Exception) -> None:
    kind = (name, type(error).__qualname__)
    if kind in _seen or len(_seen) >= _MAX_KINDS:
        return
    _seen.add(kind)
    _logger.warning(
        "QueryWatch: %s failed; the application is not affected, further errors of this kind are not logged",
        name,
        exc_info=error,
    )
