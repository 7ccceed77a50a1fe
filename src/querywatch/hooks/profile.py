"""The pool profile: `create_engine` gets the arguments that the application did not give it."""

import functools
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import sqlalchemy
import wrapt
from sqlalchemy.engine import create
from sqlalchemy.exc import ArgumentError

from querywatch.guard import guarded
from querywatch.pool.profiles import fill_in
from querywatch.settings import Settings


class ProfileHook:
    """Replaces `create_engine` and `create_async_engine` wherever SQLAlchemy has them under their public names.

    A name that a program imported from SQLAlchemy before that stays the original.
    """

    def __init__(self, profile: str, settings: Settings) -> None:
        self._profile = profile
        self._settings = settings
        self._undo: list[Callable[[], None]] = []
        self._enabled = False

    def install(self) -> None:
        """Replace the functions; the asynchronous one when its module is imported, now or later."""
        self._enabled = True
        for module in (sqlalchemy, sqlalchemy.engine, create):
            self._replace(module, "create_engine")
        wrapt.register_post_import_hook(self._replace_async, "sqlalchemy.ext.asyncio")

    def uninstall(self) -> None:
        """Put the originals back; engines keep what they were made with."""
        self._enabled = False
        while self._undo:
            self._undo.pop()()

    @guarded
    def _replace_async(self, package: ModuleType) -> None:
        if self._enabled:
            self._replace(package, "create_async_engine")
            self._replace(sys.modules["sqlalchemy.ext.asyncio.engine"], "create_async_engine")

    def _replace(self, module: ModuleType, name: str) -> None:
        """Put ours beneath the wrappers of contrib's instrumentation, which takes off the outermost when it goes."""
        holder, attribute = _innermost(module, name)
        original = getattr(holder, attribute)
        ours = self._filling(original)
        setattr(holder, attribute, ours)
        self._undo.append(functools.partial(_put_back, module, name, ours, original))

    def _filling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def create_with_profile(*args: Any, **kwargs: Any) -> Any:
            filled = self._fill_in(args, kwargs)
            return original(*args, **(kwargs if filled is None else filled))

        return create_with_profile

    @guarded
    def _fill_in(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        url = args[0] if args else kwargs.get("url")
        try:
            return None if url is None else fill_in(self._profile, url, kwargs, self._settings)
        except ArgumentError:  # No URL, or of no dialect that is installed: SQLAlchemy says so itself.
            return None


def _innermost(module: ModuleType, name: str) -> tuple[Any, str]:
    """Return where the reference to the function is that no wrapper of wrapt's is around: object and attribute."""
    holder: Any = module
    attribute = name
    while isinstance(getattr(holder, attribute), wrapt.FunctionWrapper):
        holder, attribute = getattr(holder, attribute), "__wrapped__"
    return holder, attribute


def _put_back(module: ModuleType, name: str, ours: Callable[..., Any], original: Callable[..., Any]) -> None:
    holder, attribute = _innermost(module, name)
    if getattr(holder, attribute) is ours:
        setattr(holder, attribute, original)
