"""The ASGI entry, where OpenTelemetry's ASGI middleware is used (FastAPI, Starlette, Quart)."""

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import wrapt
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from querywatch import callsite, spans
from querywatch.callsite import Callsite
from querywatch.guard import guarded
from querywatch.hooks.entry import Entry

_MODULE: Final = "opentelemetry.instrumentation.asgi"
#: Marks the scope of a request that is in its entry; applications mounted in one another hand copies of it down.
_MARK: Final = "querywatch.entered"


class _Call(NamedTuple):
    """A call of the outermost application: its task, and OpenTelemetry's context outside of it."""

    task: "weakref.ref[Any]"
    outside: Context


_call: ContextVar[_Call | None] = ContextVar("querywatch_asgi_call", default=None)


class AsgiHook:
    """Wraps the middleware's call as soon as its module is imported; without it nothing is imported."""

    def __init__(self, requests: spans.Requests) -> None:
        self._requests = requests
        self._undo: list[Callable[[], None]] = []
        self._enabled = False

    def install(self) -> None:
        """Wrap the entry, now or when it is imported."""
        self._enabled = True
        wrapt.register_post_import_hook(self._wrap, _MODULE)

    def uninstall(self) -> None:
        """Put the middleware's own entry back."""
        self._enabled = False
        while self._undo:
            self._undo.pop()()

    @guarded
    def _wrap(self, module: Any) -> None:
        if not self._enabled:
            return
        hook, wrapped = self, module.OpenTelemetryMiddleware
        original: Callable[..., Awaitable[None]] = wrapped.__call__

        @functools.wraps(original)
        async def call(middleware: Any, scope: dict[str, Any], receive: Any, send: Any) -> None:
            entry = hook._begin(scope)
            if entry is None:
                return await original(middleware, scope, receive, send)
            inside = entry.enter()
            try:
                await original(middleware, scope, receive, send)
            finally:
                entry.leave(inside)
                entry.finish()

        callsite.stop_at(call)
        wrapped.__call__ = call
        self._undo.append(functools.partial(setattr, wrapped, "__call__", original))

    @guarded
    def _begin(self, scope: dict[str, Any]) -> Entry | None:
        if scope.get("type") != "http":
            return None
        return Entry(self._requests, functools.partial(_locate, scope), _outside(scope))


def _outside(scope: dict[str, Any]) -> Context | None:
    """Return the OpenTelemetry context outside of the request that this one's context was copied from, None if of none.

    With asyncio's own event loop a request on a kept-alive connection may run in a copy of the context of the request
    before it, which may not even have ended (https://github.com/python/cpython/issues/140947).
    """
    task = _current_task()
    if scope.get(_MARK) or task is None:
        return None
    scope[_MARK] = True
    last = _call.get()
    if last is not None and last.task() is task:
        return None
    outside = None if last is None else last.outside
    _call.set(_Call(weakref.ref(task), otel_context.get_current() if outside is None else outside))
    return outside


def _current_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:  # another event loop than asyncio's
        return None


@guarded
def _locate(scope: dict[str, Any]) -> tuple[str | None, Callsite | None]:
    """Return the route that Starlette has put into the scope, and where its endpoint is defined."""
    route = getattr(scope.get("route"), "path", None)
    return route, callsite.of_function(scope.get("endpoint"))
