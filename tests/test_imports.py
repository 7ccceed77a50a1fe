"""The one-way order of the package, read from its import statements."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "querywatch"

LAYERS = (
    # A module imports from the rows above its own, never from its own row or from below. A package is one entry:
    # its modules may import each other.
    {"semconv", "guard", "settings"},
    {"sql", "callsite", "shutdown", "exporters_fork", "exporters_log", "system_metrics"},
    {"findings"},
    {"window"},
    {"detectors"},
    {"metrics"},
    {"outputs"},
    {"spans"},
    {"pool"},
    {"hooks"},
    {"pipeline"},
    {"instrumentor", "distro"},
    {"__init__"},
    {"testing", "demo"},
    {"cli"},
)

PURE = {
    # All that a detector may import besides the rows above: nothing with a clock, a file, a socket or a thread, and
    # neither OpenTelemetry nor SQLAlchemy.
    *("__future__", "abc", "collections", "collections.abc", "dataclasses", "enum", "functools", "hashlib", "heapq"),
    *("itertools", "math", "operator", "re", "statistics", "string", "typing"),
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Every module by its name inside the package: `settings`, `detectors.slow`; `__init__` is querywatch itself."""


def imported_names(module: str) -> set[str]:
    """Return the full names of everything that a module's import statements name, wherever in the file they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: import by the full name, as everywhere in this package"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_modules(module: str) -> set[str]:
    """Return the modules of this package that a module imports."""
    ours = {name.removeprefix("querywatch").removeprefix(".") for name in imported_names(module) if is_ours(name)}
    return {_module_of(name) for name in ours} - {module}


def is_ours(name: str) -> bool:
    return name.partition(".")[0] == "querywatch"


def _module_of(name: str) -> str:
    """`detectors.slow.find` is in the module `detectors.slow`; what is in no module is in `querywatch` itself."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def layer(module: str) -> int:
    top = module.partition(".")[0]
    for number, row in enumerate(LAYERS):
        if top in row:
            return number
    pytest.fail(f"say in LAYERS where {top} belongs")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_layers_above_it(module: str) -> None:
    own = layer(module)
    package = module.partition(".")[0]
    others = {name for name in imported_modules(module) if name.partition(".")[0] != package}
    assert {name for name in others if layer(name) >= own} == set()


def test_the_table_of_layers_names_no_module_that_is_gone() -> None:
    assert {name for row in LAYERS for name in row} - {name.partition(".")[0] for name in MODULES} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: imported_modules(module) for module in MODULES}).prepare()


def test_detectors_have_no_clock_no_input_no_output_and_no_opentelemetry() -> None:
    detectors = [module for module in MODULES if module.partition(".")[0] == "detectors"]
    assert detectors
    impure = {
        f"{module} imports {name}"
        for module in detectors
        for name in imported_names(module)
        if not is_ours(name) and name not in PURE and name.rpartition(".")[0] not in PURE
    }
    assert impure == set()
