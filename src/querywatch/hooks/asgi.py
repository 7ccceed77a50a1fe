"""The ASGI entry, where OpenTelemetry's ASGI middleware is used (FastAPI, Starlette, Quart)."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import wrapt

from querywatch import callsite, spans
from querywatch.callsite import Callsite
from querywatch.guard import guarded
from querywatch.hooks.entry import Entry

_MODULE = "opentelemetry.instrumentation.asgi"


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
        return Entry(self._requests, functools.partial(_locate, scope))


@guarded
def _locate(scope: dict[str, Any]) -> tuple[str | None, Callsite | None]:
    """Return the route that Starlette has put into the scope, and where its endpoint is defined."""
    route = getattr(scope.get("route"), "path", None)
    return route, callsite.of_function(scope.get("endpoint"))
