"""The table of all guarded callbacks: importing a module of the package enters its own."""

import importlib
import pkgutil

import querywatch
from querywatch.guard import GUARDED

for module in pkgutil.walk_packages(querywatch.__path__, "querywatch."):
    if not module.name.startswith(("querywatch.demo", "querywatch.examples")):
        importlib.import_module(module.name)

__all__ = ["GUARDED"]
