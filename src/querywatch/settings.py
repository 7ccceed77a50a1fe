"""The settings: one table of environment variables, read once into a frozen object."""

import dataclasses
import functools
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

T = TypeVar("T")

_logger = logging.getLogger("querywatch")


@dataclass(frozen=True, slots=True)
class Settings:
    """What QueryWatch was told. Times are seconds; thresholds compare strictly (exactly 0.5 s is not over 0.5)."""

    enabled: bool = True
    slow_query_threshold: float = 0.5
    critical_query_threshold: float = 2.0
    slow_request_threshold: float = 1.0
    max_queries_per_request: int = 20
    n_plus_one_threshold: int = 5
    ignore: tuple[str, ...] = ()
    pool_warning: float = 0.80
    pool_critical: float = 0.95
    leak_threshold: float = 60.0
    pool_recovery: bool = False
    pool_profile: str | None = None
    pool_size: int | None = None
    max_overflow: int | None = None
    system_metrics: bool = True

    def ignores(self, *names: str | None) -> bool:
        """Tell whether one of a finding's names (key, fingerprint, route) is on the ignore list."""
        return any(fnmatchcase(name, pattern) for pattern in self.ignore for name in names if name is not None)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: a field of `Settings`, its variables (the first one wins), how to read it, its meaning."""

    field: str
    variables: tuple[str, ...]
    parse: Callable[[str], Any]
    meaning: str
    unset: str = ""
    """How a default that is no value of its own is told to a user."""

    @property
    def default(self) -> Any:
        """The value where no variable is set or its value is bad."""
        return getattr(DEFAULTS, self.field)

    @property
    def told_default(self) -> str:
        """The default in words."""
        return self.unset or str(self.default)


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("expected true or false")
    return words[text.lower()]


def _seconds(text: str) -> float:
    value = _number(float, text, "a number of seconds, for example 0.5")
    if not math.isfinite(value) or value <= 0:
        raise ValueError("expected a number of seconds above 0")
    return value


def _share(text: str) -> float:
    value = _number(float, text, "a share, for example 0.8")
    if not 0 < value <= 1:
        raise ValueError("expected a share above 0 and not above 1")
    return value


def _count(minimum: int, text: str) -> int:
    value = _number(int, text, "a whole number")
    if value < minimum:
        raise ValueError(f"expected {minimum} or more")
    return value


def _number(number: Callable[[str], T], text: str, expected: str) -> T:
    try:
        return number(text)
    except ValueError:
        raise ValueError(f"expected {expected}") from None


def _choice(choices: tuple[str, ...], text: str) -> str:
    if text.lower() not in choices:
        raise ValueError(f"expected one of {', '.join(choices)}")
    return text.lower()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


DEFAULTS: Final = Settings()

#: The profiles of `querywatch.engine_options`.
POOL_PROFILES: Final = ("production", "development", "testing")

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("enabled", ("QUERYWATCH_ENABLED",), _boolean, "false: nothing is installed"),
    Setting(
        "slow_query_threshold",
        ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "SLOW_QUERY_THRESHOLD"),
        _seconds,
        "seconds; a query that lasts longer is slow",
    ),
    Setting(
        "critical_query_threshold",
        ("QUERYWATCH_CRITICAL_QUERY_THRESHOLD",),
        _seconds,
        "seconds; a query that lasts longer is critical",
    ),
    Setting(
        "slow_request_threshold",
        ("QUERYWATCH_SLOW_REQUEST_THRESHOLD", "SLOW_REQUEST_THRESHOLD"),
        _seconds,
        "seconds; a request that lasts longer is slow",
    ),
    Setting(
        "max_queries_per_request",
        ("QUERYWATCH_MAX_QUERIES_PER_REQUEST",),
        functools.partial(_count, 1),
        "more queries in one request are a `query_volume` finding",
    ),
    Setting(
        "n_plus_one_threshold",
        ("QUERYWATCH_N_PLUS_ONE_THRESHOLD",),
        functools.partial(_count, 2),
        "runs with distinct parents or parameters that make an N+1",
    ),
    Setting(
        "ignore",
        ("QUERYWATCH_IGNORE",),
        _names,
        "comma-separated finding keys, fingerprints or routes (`*` allowed) that are no findings",
    ),
    Setting("pool_warning", ("QUERYWATCH_POOL_WARNING",), _share, "used / maximum connections; more is a finding"),
    Setting("pool_critical", ("QUERYWATCH_POOL_CRITICAL",), _share, "used / maximum connections; more is critical"),
    Setting("leak_threshold", ("QUERYWATCH_LEAK_THRESHOLD",), _seconds, "seconds a connection may stay checked out"),
    Setting(
        "pool_recovery",
        ("QUERYWATCH_POOL_RECOVERY",),
        _boolean,
        "true: stale connections are replaced, and leaked ones given back when their request has ended",
    ),
    Setting(
        "pool_profile",
        ("QUERYWATCH_POOL_PROFILE",),
        functools.partial(_choice, POOL_PROFILES),
        "fills in the pool arguments that `create_engine` was not given",
        unset="none: engines are left as they are",
    ),
    Setting(
        "pool_size",
        ("DB_POOL_SIZE",),
        functools.partial(_count, 1),
        "connections that a profile's pool keeps open",
        unset="of the profile (production: 20, development: 5)",
    ),
    Setting(
        "max_overflow",
        ("DB_MAX_OVERFLOW",),
        functools.partial(_count, -1),
        "connections that it opens beyond these when they are all in use; -1: without a limit",
        unset="of the profile (production: 40, development: 10)",
    ),
    Setting(
        "system_metrics",
        ("QUERYWATCH_SYSTEM_METRICS",),
        _boolean,
        "false: no metrics of process and host (CPU, memory, garbage collection, threads)",
    ),
)


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. A bad value gives one warning and leaves the default in force; nothing is raised."""
    values = {setting.field: _read(setting, environ) for setting in SETTINGS}
    return _consistent(Settings(**values))


@functools.cache
def from_environment() -> Settings:
    """Read the process's settings at the first call, so that a bad value is told once."""
    return load()


def _read(setting: Setting, environ: Mapping[str, str]) -> Any:
    for variable in setting.variables:
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            return setting.parse(text)
        except ValueError as error:
            _logger.warning("%s=%r: %s; using the default %s", variable, text, error, setting.told_default)
            return setting.default
    return setting.default


def _consistent(settings: Settings) -> Settings:
    """Lift a critical threshold that lies under the slow one, as no query could be slow without being critical."""
    slow, critical = settings.slow_query_threshold, settings.critical_query_threshold
    if critical >= slow:
        return settings
    raised = max(slow, DEFAULTS.critical_query_threshold)
    _logger.warning(
        "QUERYWATCH_CRITICAL_QUERY_THRESHOLD=%s lies under the slow query threshold %s; using %s",
        critical,
        slow,
        raised,
    )
    return dataclasses.replace(settings, critical_query_threshold=raised)
