"""Flask's WSGI entry: a request is everything from there to the end of its body."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from flask import request, request_started

# Not flask.Flask, which contrib replaces by a subclass of it.
from flask.app import Flask
from werkzeug.routing import Rule

from querywatch import callsite, spans
from querywatch.callsite import Callsite
from querywatch.guard import guarded
from querywatch.hooks.adopt import adopt_app
from querywatch.hooks.entry import Entry

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


#: Where contrib's instrumentation keeps the request's span, recorded or not, in the WSGI environment.
_SPAN: Final = "opentelemetry-flask.span_key"


class FlaskHook:
    """Wraps `Flask.__call__` for all applications, made before or after, and listens to Flask's routing."""

    def __init__(self, requests: spans.Requests) -> None:
        self._requests = requests
        self._original = Flask.__call__

    def install(self) -> None:
        """Wrap the entry."""
        hook, original = self, self._original

        @functools.wraps(original)
        def call(app: Flask, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            run = functools.partial(original, app, environ, start_response)
            entry = hook._begin(app, environ)
            return run() if entry is None else _run(run, environ, entry)

        callsite.stop_at(call)
        setattr(Flask, "__call__", call)  # noqa: B010 - a type checker rightly objects to the plain assignment
        request_started.connect(_request_started)

    def uninstall(self) -> None:
        """Put Flask's own entry back."""
        request_started.disconnect(_request_started)
        setattr(Flask, "__call__", self._original)  # noqa: B010

    @guarded
    def _begin(self, app: Flask, environ: "WSGIEnvironment") -> Entry:
        adopt_app(app)
        return Entry(self._requests)


class Body:
    """A response body that runs inside its request: what it queries while it streams belongs there."""

    def __init__(self, body: Iterable[bytes], entry: Entry) -> None:
        self._body = body
        self._iterator: Iterator[bytes] = iter(body)
        self._entry = entry

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        inside = self._entry.enter_body()
        try:
            return next(self._iterator)
        finally:
            self._entry.leave(inside)

    def close(self) -> None:
        """End the body and, whatever that raises, the request."""
        inside = self._entry.enter_body()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._entry.leave(inside)
            self._entry.finish()

    def __del__(self) -> None:
        """End the request of a body that nobody has closed: test clients don't."""
        self._entry.finish()


callsite.stop_at(Body.__next__)
callsite.stop_at(Body.close)


def _run(run: Callable[[], Iterable[bytes]], environ: "WSGIEnvironment", entry: Entry) -> Iterable[bytes]:
    inside = entry.enter()
    try:
        body = run()
    except BaseException:
        entry.finish()
        raise
    finally:
        entry.leave(inside)
    entry.end_call(environ.get(_SPAN))
    if _streams(body, environ):
        return Body(body, entry)
    entry.finish()
    return body


def _streams(body: Iterable[bytes], environ: "WSGIEnvironment") -> bool:
    """Whether the application may run while `body` is read. A file that the server sends itself stays as it is."""
    wrapper = environ.get("wsgi.file_wrapper")
    return hasattr(body, "__next__") and not (isinstance(wrapper, type) and isinstance(body, wrapper))


@guarded
def _request_started(app: Flask, **_: object) -> None:
    """Keep the rule that Flask has matched: it lets go of that before a body or an unsampled request has ended."""
    entered = spans.current()
    if entered is not None and request.url_rule is not None:
        entered.locators.append(functools.partial(_locate, app, request.url_rule))


@guarded
def _locate(app: Flask, rule: Rule) -> tuple[str | None, Callsite | None]:
    """Return the route and where its view is defined."""
    view = app.view_functions.get(rule.endpoint)
    view = getattr(view, "view_class", None) or inspect.unwrap(view) if view is not None else None
    return rule.rule, callsite.of_function(view)
