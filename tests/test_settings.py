"""The settings: what each variable does, and that a bad value costs one warning and nothing else."""

import dataclasses
import logging
from typing import Any

import pytest

from querywatch import settings
from querywatch.settings import DEFAULTS, SETTINGS, Settings

GOOD = [
    ("QUERYWATCH_ENABLED", "false", "enabled", False),
    ("QUERYWATCH_ENABLED", "OFF", "enabled", False),
    ("QUERYWATCH_ENABLED", "0", "enabled", False),
    ("QUERYWATCH_ENABLED", "Yes", "enabled", True),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "0.25", "slow_query_threshold", 0.25),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", " 1e-3 ", "slow_query_threshold", 0.001),
    ("SLOW_QUERY_THRESHOLD", "0.1", "slow_query_threshold", 0.1),
    ("QUERYWATCH_CRITICAL_QUERY_THRESHOLD", "3", "critical_query_threshold", 3.0),
    ("QUERYWATCH_SLOW_REQUEST_THRESHOLD", "0.75", "slow_request_threshold", 0.75),
    ("SLOW_REQUEST_THRESHOLD", "2", "slow_request_threshold", 2.0),
    ("QUERYWATCH_MAX_QUERIES_PER_REQUEST", "1", "max_queries_per_request", 1),
    ("QUERYWATCH_N_PLUS_ONE_THRESHOLD", "2", "n_plus_one_threshold", 2),
    ("QUERYWATCH_IGNORE", "Author.books, /health ,, *@vendor/*", "ignore", ("Author.books", "/health", "*@vendor/*")),
]

BAD = [
    ("QUERYWATCH_ENABLED", "maybe", "enabled"),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "fast", "slow_query_threshold"),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "500ms", "slow_query_threshold"),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "0,5", "slow_query_threshold"),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "0", "slow_query_threshold"),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "-1", "slow_query_threshold"),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "nan", "slow_query_threshold"),
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "inf", "slow_query_threshold"),
    ("SLOW_QUERY_THRESHOLD", "fast", "slow_query_threshold"),
    ("QUERYWATCH_CRITICAL_QUERY_THRESHOLD", "none", "critical_query_threshold"),
    ("QUERYWATCH_SLOW_REQUEST_THRESHOLD", "1s", "slow_request_threshold"),
    ("SLOW_REQUEST_THRESHOLD", "-0.1", "slow_request_threshold"),
    ("QUERYWATCH_MAX_QUERIES_PER_REQUEST", "0", "max_queries_per_request"),
    ("QUERYWATCH_MAX_QUERIES_PER_REQUEST", "2.5", "max_queries_per_request"),
    ("QUERYWATCH_N_PLUS_ONE_THRESHOLD", "1", "n_plus_one_threshold"),
    ("QUERYWATCH_N_PLUS_ONE_THRESHOLD", "many", "n_plus_one_threshold"),
]


def field(loaded: Settings, name: str) -> Any:
    return getattr(loaded, name)


@pytest.mark.parametrize(("variable", "text", "name", "value"), GOOD)
def test_a_variable_changes_its_field_and_no_other(
    variable: str, text: str, name: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert dataclasses.asdict(settings.load({variable: text})) == dataclasses.asdict(DEFAULTS) | {name: value}
    assert caplog.messages == []


@pytest.mark.parametrize(("variable", "text", "name"), BAD)
def test_a_bad_value_gives_one_warning_that_names_variable_value_and_default(
    variable: str, text: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert settings.load({variable: text}) == DEFAULTS
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    for named in (f"{variable}={text!r}", f"default {field(DEFAULTS, name)}"):
        assert named in caplog.messages[0]


def test_the_defaults_are_those_of_the_design() -> None:
    assert settings.load({}) == Settings(
        enabled=True,
        slow_query_threshold=0.5,
        critical_query_threshold=2.0,
        slow_request_threshold=1.0,
        max_queries_per_request=20,
        n_plus_one_threshold=5,
        ignore=(),
    )


def test_an_empty_variable_counts_as_none(caplog: pytest.LogCaptureFixture) -> None:
    assert settings.load({setting.variables[0]: "  " for setting in SETTINGS}) == DEFAULTS
    assert caplog.messages == []


def test_the_long_name_wins_over_its_alias() -> None:
    both = {"SLOW_QUERY_THRESHOLD": "0.1", "QUERYWATCH_SLOW_QUERY_THRESHOLD": "0.2"}
    assert settings.load(both).slow_query_threshold == 0.2


def test_two_bad_values_give_two_warnings_and_the_good_one_holds(caplog: pytest.LogCaptureFixture) -> None:
    bad = {"QUERYWATCH_ENABLED": "maybe", "QUERYWATCH_N_PLUS_ONE_THRESHOLD": "x", "QUERYWATCH_IGNORE": "a"}
    assert settings.load(bad) == dataclasses.replace(DEFAULTS, ignore=("a",))
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(("slow", "critical", "raised"), [("1", "0.5", 2.0), ("5", "", 5.0), ("3", "1", 3.0)])
def test_a_critical_threshold_under_the_slow_one_is_lifted_with_one_warning(
    slow: str, critical: str, raised: float, caplog: pytest.LogCaptureFixture
) -> None:
    variables = {"QUERYWATCH_SLOW_QUERY_THRESHOLD": slow, "QUERYWATCH_CRITICAL_QUERY_THRESHOLD": critical}
    loaded = settings.load(variables)
    assert (loaded.slow_query_threshold, loaded.critical_query_threshold) == (float(slow), raised)
    assert len(caplog.messages) == 1
    assert "QUERYWATCH_CRITICAL_QUERY_THRESHOLD" in caplog.messages[0]


def test_every_field_has_its_row_in_the_table() -> None:
    assert [setting.field for setting in SETTINGS] == [one.name for one in dataclasses.fields(Settings)]


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULTS.enabled = False  # type: ignore[misc]


IGNORED = [
    (("Author.books",), ("Author.books", None, "/authors"), True),
    (("Author.*",), ("Author.books", None, "/authors"), True),
    (("/api/*",), ("Author.books", None, "/api/authors/<int:id>"), True),
    (("/authors/<int:id>",), ("Author.books", None, "/authors/<int:id>"), True),
    (("0123456789abcdef",), ("0123456789abcdef@app.py:1", "0123456789abcdef", None), True),
    (("*@app.py:*",), ("0123456789abcdef@app.py:1", "0123456789abcdef", None), True),
    (("author.books",), ("Author.books", None, None), False),
    (("Author",), ("Author.books", None, None), False),
    ((), ("Author.books", None, "/"), False),
]


@pytest.mark.parametrize(("patterns", "names", "ignored"), IGNORED)
def test_the_ignore_list_knows_keys_fingerprints_and_routes(
    patterns: tuple[str, ...], names: tuple[str | None, ...], ignored: bool
) -> None:
    assert Settings(ignore=patterns).ignores(*names) is ignored
