"""Profiles: arguments for `create_engine` that fit a place (production, development, tests), a dialect and its driver.

Times are seconds, but for `statement_timeout` and `max_execution_time`, which the databases count in milliseconds.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from querywatch.settings import POOL_PROFILES, Settings, from_environment

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Dialect
    from sqlalchemy.pool import Pool


@dataclass(frozen=True, slots=True)
class Profile:
    """What one profile asks for."""

    pool: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of a `QueuePool`; empty: every connection is made anew and closed after use."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that every engine takes."""
    limits: bool = False
    """Whether connections get time limits and TCP keepalives."""


PROFILES: Final[Mapping[str, Profile]] = {
    "production": Profile(
        pool={"pool_size": 20, "max_overflow": 40, "pool_timeout": 30, "pool_recycle": 3600, "pool_pre_ping": True},
        limits=True,
    ),
    # The overflow is SQLAlchemy's own default.
    "development": Profile(pool={"pool_size": 5, "max_overflow": 10}, engine={"echo": True}),
    "testing": Profile(),
}

_LIBPQ: Final = {
    "connect_timeout": 10,
    # A peer that went away without a word is found out after 30 s and 5 probes; no firewall forgets the connection.
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 5,
    "options": "-c statement_timeout=60000",
}
_LIBPQ_VARIABLES: Final = {"connect_timeout": "PGCONNECT_TIMEOUT", "options": "PGOPTIONS"}
_ASYNCPG: Final = {"timeout": 10, "server_settings": {"statement_timeout": "60000"}}
# Its `timeout` would end a slow query as well as a slow connect; TCP keepalives are on by default.
_PG8000: Final = {"startup_params": {"statement_timeout": "60000"}}
# Nobody knows before connecting whether it is MySQL or MariaDB, and either refuses the other's variable. So each finds
# its own in a comment that it alone executes: MariaDB skips `/*!50708`, as it skips all from 50700 on, MySQL `/*M!`.
# Older servers have neither variable, and whatever executes no comments is left with a user variable that nobody reads.
_MYSQL: Final = {
    "connect_timeout": 10,
    "init_command": (
        "SET @querywatch = 1 /*!50708 , SESSION max_execution_time = 60000 */"
        " /*M!100101 , SESSION max_statement_time = 60 */"
    ),
}
_MYSQL_DRIVERS: Final = ("pymysql", "mysqldb", "aiomysql", "asyncmy")
_CONNECT_ARGS: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    **{("postgresql", driver): _LIBPQ for driver in ("psycopg", "psycopg2", "psycopg2cffi")},
    ("postgresql", "asyncpg"): _ASYNCPG,
    ("postgresql", "pg8000"): _PG8000,
    **{(name, driver): _MYSQL for name in ("mysql", "mariadb") for driver in _MYSQL_DRIVERS},
}
"""By dialect and driver. A driver that is not here gets no arguments of which nobody has seen that it takes them."""

_QUEUE_ONLY: Final = frozenset({"pool_size", "max_overflow", "pool_timeout", "pool_use_lifo"})
"""What `create_engine` takes for a queue pool, and refuses for a `NullPool`."""


def engine_options(profile: str, url: "str | URL") -> dict[str, Any]:
    """Return keyword arguments for `create_engine(url, …)`, or for Flask-SQLAlchemy's `SQLALCHEMY_ENGINE_OPTIONS`.

    `profile` is `"production"`, `"development"` or `"testing"`; anything else raises a ValueError. The arguments are
    those that the URL's dialect and driver accept, for `create_async_engine` as well; what the URL's query says itself
    is left to it. `DB_POOL_SIZE` and `DB_MAX_OVERFLOW` replace the profile's numbers.
    """
    return fill_in(profile, url, {}, from_environment())


def fill_in(profile: str, url: "str | URL", given: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return `given`, the arguments of a call of `create_engine`, and what a profile adds to them.

    What is given stays as it is, key by key, inside `connect_args` too.
    """
    from sqlalchemy.engine import make_url

    if profile not in PROFILES:
        raise ValueError(f"unknown pool profile {profile!r}: expected one of {', '.join(POOL_PROFILES)}")
    chosen = PROFILES[profile]
    address = make_url(url)
    dialect = address.get_dialect()
    connect_args = dict(given.get("connect_args") or {})
    if chosen.limits and "pool" not in given and "creator" not in given:
        connect_args = _connect_args(dialect, address, connect_args)
    pool = _pool_arguments(chosen, settings, given) if _is_queue(dialect, address, given) else {}
    filled = {**chosen.engine, **pool, **given}
    return {**filled, "connect_args": connect_args} if connect_args else filled


def _is_queue(dialect: Any, url: "URL", given: Mapping[str, Any]) -> bool:
    """Whether the pool takes a queue's arguments. One with a constructor of its own may have settled them itself.

    In-memory SQLite has no queue: its one connection is the database. The dialect is asked only where no pool class is
    given, as SQLAlchemy itself does: some answer with a deprecation warning.
    """
    from sqlalchemy.pool import QueuePool

    if "pool" in given:
        return False
    poolclass: type[Pool] = given.get("poolclass") or dialect.get_pool_class(url)
    return issubclass(poolclass, QueuePool) and poolclass.__init__ is QueuePool.__init__


def _pool_arguments(profile: Profile, settings: Settings, given: Mapping[str, Any]) -> Mapping[str, Any]:
    from sqlalchemy.pool import NullPool

    if profile.pool:
        chosen = {"pool_size": settings.pool_size, "max_overflow": settings.max_overflow}
        return {**profile.pool, **{name: number for name, number in chosen.items() if number is not None}}
    return {} if _QUEUE_ONLY & given.keys() else {"poolclass": NullPool}


def _connect_args(dialect: "type[Dialect]", url: "URL", given: Mapping[str, Any]) -> dict[str, Any]:
    ours = _CONNECT_ARGS.get((dialect.name, dialect.driver), {})
    if ours is _LIBPQ and ("service" in url.query or "service" in given or "PGSERVICE" in os.environ):
        return dict(given)  # An argument would win over the service's own settings, and these can't be seen here.
    added = {name: _value(value, _theirs(name, url, given, ours is _LIBPQ)) for name, value in ours.items()}
    return {**given, **{name: value for name, value in added.items() if value is not None}}


def _theirs(name: str, url: "URL", given: Mapping[str, Any], is_libpq: bool) -> Any:
    """What the application says of one argument: to `create_engine`, in the URL, or in a variable that libpq reads."""
    variable = _LIBPQ_VARIABLES.get(name, "") if is_libpq else ""
    return given.get(name, url.query.get(name, os.environ.get(variable) or None))


def _value(ours: Any, theirs: Any) -> Any:
    """Return the value of an argument that may hold several settings; None where it is theirs alone.

    An empty text or table asks for none at all. Of PostgreSQL's options the last one of a name counts.
    """
    if theirs is None:
        return ours
    if isinstance(ours, dict) and isinstance(theirs, Mapping) and theirs:
        return {**ours, **theirs}
    if isinstance(ours, str) and ours.startswith("-c ") and isinstance(theirs, str) and theirs and ours not in theirs:
        return f"{ours} {theirs}"
    return None
