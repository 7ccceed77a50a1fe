"""The application's line that issued a query, found by walking the frames of the running thread.

A frame is the application's when its file lies outside site-packages; where there is none (the application is an
installed package) the nearest frame that is not a framework's; and where Flask-AppBuilder or another extension brings
whole views along, the nearest line of the extension. Frames of the standard library, of SQLAlchemy, Flask and the
servers are never the answer, nor is anything below the request's entry.
"""

import functools
import os
import sys
import sysconfig
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from querywatch import semconv

_APPLICATION, _INSTALLED, _EXTENSION, _FRAMEWORK, _GENERATED = range(5)

#: Top-level packages that are nobody's application, and with them all named `sqlalchemy_…` or `…_sqlalchemy`.
_FRAMEWORKS: Final = frozenset(
    (
        "_pytest a2wsgi aiosqlite alembic anyio asgiref asyncpg bjoern blinker celery cheroot click connexion "
        "ddtrace elasticapm eventlet fastapi flask gevent graphene graphql greenlet gunicorn hypercorn jinja2 kombu "
        "mako markupsafe marshmallow meinheld newrelic opentelemetry pip pluggy psycopg psycopg2 pydantic "
        "pydantic_core pymysql pytest querywatch scout_apm sentry_sdk socketio sqlalchemy sqlmodel starlette "
        "strawberry tornado uvicorn uwsgi uwsgidecorators waitress webargs werkzeug whitenoise wrapt wtforms"
    ).split()
)
_SITE_DIRECTORIES: Final = ("/site-packages/", "/dist-packages/")
_OWN_DIRECTORY: Final = os.path.dirname(__file__).replace(os.sep, "/") + "/"
_STANDARD_LIBRARY: Final = tuple(
    sysconfig.get_path(name).replace(os.sep, "/") + "/" for name in ("stdlib", "platstdlib", "scripts")
)
_MAX_CACHED = 4096

#: Code of the wrappers through which a request enters; what lies below is the server, not the application.
#: By their id, as a code object computes its hash anew each time; kept, so that no other object gets that id.
_entries: dict[int, CodeType] = {}
_kinds: dict[str, int] = {}
#: By code object and position in it, which are at hand; the line has to be counted. Kept for the id's sake as above.
_callsites: dict[tuple[int, int], tuple[CodeType, "Callsite"]] = {}


class Callsite(NamedTuple):
    """One line of the application. `place` is `<file>:<line>` with a file name that is equal in every deployment."""

    file: str
    line: int
    function: str
    place: str

    def attributes(self) -> dict[str, str | int]:
        """Return the line in the words of OpenTelemetry's semantic conventions for source code."""
        return {
            semconv.CODE_FILE_PATH: self.file,
            semconv.CODE_LINE_NUMBER: self.line,
            semconv.CODE_FUNCTION_NAME: self.function,
        }


def stop_at(function: Any) -> None:
    """Make the code of `function` the outer end of every walk: the entry of a request."""
    _entries[id(function.__code__)] = function.__code__


def find(skip: int = 0) -> Callsite | None:
    """Return the application's nearest line on this thread's stack, None where there is none. Costs 1 to 5 us.

    The caller knows `skip` frames, itself included, that are not the application's: each that is looked at costs.
    """
    installed: FrameType | None = None
    extension: FrameType | None = None
    frame: FrameType | None = sys._getframe(1 + skip)
    while frame is not None:
        code = frame.f_code
        if id(code) in _entries:
            break
        kind = _kinds.get(code.co_filename)
        if kind is None:
            kind = _remember_kind(code.co_filename)
        if kind == _APPLICATION or (kind == _GENERATED and "__jinja_template__" in frame.f_globals):
            return _callsite(frame)
        if kind == _INSTALLED:
            installed = installed or frame
        elif kind == _EXTENSION:
            extension = extension or frame
        frame = frame.f_back or _waiting_frame(frame)
    found = installed or extension
    return None if found is None else _callsite(found)


def of_function(function: Any) -> Callsite | None:
    """Return where `function` is defined, None where it has no code of its own (a class, a built-in)."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    module = getattr(function, "__module__", None)
    return _make(code.co_filename, code.co_firstlineno, _qualified(module, code.co_qualname))


def subject_of(code: CodeType) -> Any:
    """Return the `self` of the nearest frame that runs `code`, a method; None where no frame does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is code:
            return frame.f_locals.get("self")
        if _kinds.get(frame.f_code.co_filename) == _APPLICATION:
            return None
        frame = frame.f_back
    return None


def _waiting_frame(last: FrameType) -> FrameType | None:
    """Return where the stack goes on for SQLAlchemy's asyncio bridge: the coroutine that waits for this greenlet."""
    greenlet = sys.modules.get("greenlet")
    if greenlet is None:
        return None
    parent = greenlet.getcurrent().parent
    waiting: FrameType | None = None if parent is None else parent.gr_frame
    # A parent that is not waiting has no frame, and the walk must not come by the same frame twice.
    return None if waiting is last or id(last.f_code) in _entries else _unvisited(waiting, last)


def _unvisited(waiting: FrameType | None, last: FrameType) -> FrameType | None:
    frame = waiting
    while frame is not None:
        if frame is last:
            return None
        frame = frame.f_back
    return waiting


def _callsite(frame: FrameType) -> Callsite:
    code = frame.f_code
    key = (id(code), frame.f_lasti)
    found = _callsites.get(key)
    if found is None:
        if len(_callsites) >= _MAX_CACHED:
            _callsites.clear()
        found = _callsites[key] = code, _describe(frame)
    return found[1]


def _describe(frame: FrameType) -> Callsite:
    template = frame.f_globals.get("__jinja_template__")
    if template is not None:
        # The code object's lines are those of the Python that Jinja generated.
        line = template.get_corresponding_lineno(frame.f_lineno)
        return _make(template.filename or template.name or "<template>", line, frame.f_code.co_name)
    function = _qualified(frame.f_globals.get("__name__"), frame.f_code.co_qualname)
    return _make(frame.f_code.co_filename, frame.f_lineno, function)


def _make(file: str, line: int, function: str) -> Callsite:
    path = file if file.startswith("<") else os.path.abspath(file)
    return Callsite(path, line, function, f"{_relative(path)}:{line}")


def _qualified(module: str | None, name: str) -> str:
    return name if module is None else f"{module}.{name}"


def _relative(path: str) -> str:
    """Return `path` relative to the innermost of the working directory and the entries of sys.path that hold it."""
    roots = (os.path.abspath(entry) for entry in ("", *sys.path))
    holding = [root for root in roots if path.startswith(root.rstrip(os.sep) + os.sep)]
    if not holding:
        return path
    return os.path.relpath(path, max(holding, key=len)).replace(os.sep, "/")


def _remember_kind(filename: str) -> int:
    if len(_kinds) >= _MAX_CACHED:
        _kinds.clear()
    kind = _kinds[filename] = _kind(filename)
    return kind


def _kind(filename: str) -> int:
    if filename.startswith("<"):
        return _GENERATED
    path = os.path.abspath(filename).replace(os.sep, "/")
    if path.startswith(_OWN_DIRECTORY) and not path.startswith(_OWN_DIRECTORY + "examples/"):
        return _FRAMEWORK
    inner = path.removeprefix(_working_directory())
    package = _installed_package(inner)
    if package is not None:
        return _kind_of_package(package)
    # site-packages lies inside the standard library's folder, and a working directory may lie in site-packages.
    in_library = path.startswith(_STANDARD_LIBRARY) and _installed_package(path) is None
    return _FRAMEWORK if in_library else _APPLICATION


def _kind_of_package(name: str) -> int:
    if name in _FRAMEWORKS or name.startswith("sqlalchemy_") or name.endswith("_sqlalchemy"):
        return _FRAMEWORK
    return _EXTENSION if name.startswith("flask_") else _INSTALLED


@functools.cache
def _working_directory() -> str:
    """Return where the process was started: what lies there, outside of a site-packages within, is the application."""
    return os.getcwd().replace(os.sep, "/").rstrip("/") + "/"


def _installed_package(path: str) -> str | None:
    for directory in _SITE_DIRECTORIES:
        _, found, rest = path.rpartition(directory)
        if found:
            return rest.partition("/")[0].removesuffix(".py")
    return None
