"""README.md and docs/ name everything that a user can set or see, and nothing that does not exist."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from querywatch import semconv
from querywatch.settings import SETTINGS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

VARIABLES = sorted(variable for setting in SETTINGS for variable in setting.variables)
NAMES = sorted(
    {
        value
        for constant, value in vars(semconv).items()
        if constant.isupper() and isinstance(value, str) and value.startswith("querywatch.")
    }
)

CODE = re.compile(r"^(?P<fence>```+).*?^(?P=fence)|`[^`\n]+`", re.MULTILINE | re.DOTALL)
"""A fenced block, or a span between backticks."""
VARIABLE = re.compile(r"\bQUERYWATCH_[A-Z0-9_]+")
NAME = re.compile(r"(?<![\w./-])querywatch\.[\w.]+")
"""An attribute, event, metric or module; not a part of a path or of an address."""


def code(page: Path) -> str:
    """Return what stands in backticks on a page."""
    return "\n".join(match.group() for match in CODE.finditer(page.read_text()))


def test_every_setting_is_documented() -> None:
    documented = "\n".join(code(page) for page in PAGES)
    assert {name for name in VARIABLES if not re.search(rf"\b{name}\b", documented)} == set()


def test_every_attribute_event_and_metric_is_documented() -> None:
    documented = "\n".join(code(page) for page in PAGES)
    assert {name for name in NAMES if f"`{name}`" not in documented} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    assert {name for name in VARIABLE.findall(code(page)) if not _is_known(name, VARIABLES, "_")} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_attribute_event_metric_and_module_that_a_page_names_exists(page: Path) -> None:
    unknown = {name for name in NAME.findall(code(page)) if not _is_known(name, NAMES, ".")}
    assert {name for name in unknown if not _is_importable(name.rstrip("."))} == set()


def _is_known(name: str, known: list[str], separator: str) -> bool:
    """Tell whether a name exists; `querywatch.finding.` stands for a family of names (`querywatch.finding.*`)."""
    return name in known or (name.endswith(separator) and any(other.startswith(name) for other in known))


def _is_importable(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
