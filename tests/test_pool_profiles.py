"""Pool profiles: what `create_engine` is given, that real engines take it, and that the application's word counts."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, QueuePool, SingletonThreadPool, StaticPool

import querywatch
import servers
from querywatch import settings
from querywatch.pool.profiles import PROFILES, fill_in
from querywatch.settings import DEFAULTS, POOL_PROFILES

pytestmark = pytest.mark.sqlalchemy_matrix

PRODUCTION_POOL = {
    "pool_size": 20,
    "max_overflow": 40,
    "pool_timeout": 30,
    "pool_recycle": 3600,
    "pool_pre_ping": True,
}
STATEMENT_TIMEOUT = "-c statement_timeout=60000"
KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 5}
LIBPQ = {"connect_timeout": 10, **KEEPALIVES, "options": STATEMENT_TIMEOUT}
PSYCOPG = "postgresql+psycopg://u@h/d"
MEMORY = ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite://", "sqlite:///file:x?mode=memory&uri=true"]


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings are read once in a process: here once in a test, without the variables that libpq reads."""
    for name in ("PGOPTIONS", "PGCONNECT_TIMEOUT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    settings.from_environment.cache_clear()
    yield
    settings.from_environment.cache_clear()


def pool_of(engine: Engine) -> tuple[type, int, int]:
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    return type(pool), pool.size(), pool._max_overflow


# --- what a profile is ------------------------------------------------------------------------------------------------


def test_production_is_20_and_40_with_keepalives_and_limits() -> None:
    """Pool of 20 + 40, timeout 30 s, recycle 3600 s, pre-ping, keepalives, statements 60 s, connect 10 s."""
    assert querywatch.engine_options("production", PSYCOPG) == {**PRODUCTION_POOL, "connect_args": LIBPQ}


def test_development_is_5_and_echo() -> None:
    """Five connections, SQLAlchemy's own overflow of 10, every statement printed, no limits."""
    expected = {"pool_size": 5, "max_overflow": 10, "echo": True}
    assert querywatch.engine_options("development", PSYCOPG) == expected


@pytest.mark.parametrize("url", [PSYCOPG, "postgresql+asyncpg://h/d", "mysql+pymysql://h/d", "sqlite:///file.db"])
def test_testing_has_no_pool(url: str) -> None:
    """Each connection is closed after use."""
    assert querywatch.engine_options("testing", url) == {"poolclass": NullPool}


def test_every_profile_that_a_setting_may_name_exists() -> None:
    assert tuple(PROFILES) == POOL_PROFILES


def test_an_unknown_profile_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown pool profile 'prod': expected one of production, development, testi"):
        querywatch.engine_options("prod", PSYCOPG)


def test_an_unknown_dialect_is_sqlalchemys_own_error() -> None:
    with pytest.raises(ArgumentError):
        querywatch.engine_options("production", "nosuch://h/d")


def test_a_url_object_is_as_good_as_a_text() -> None:
    given = querywatch.engine_options("production", make_url(PSYCOPG))
    assert given == querywatch.engine_options("production", PSYCOPG)


# --- by dialect and driver --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "psycopg2cffi", "psycopg_async"])
def test_drivers_on_libpq_get_keepalives_and_options(driver: str) -> None:
    assert querywatch.engine_options("production", f"postgresql+{driver}://h/d")["connect_args"] == LIBPQ


def test_asyncpg_gets_server_settings_and_no_keepalives() -> None:
    options = querywatch.engine_options("production", "postgresql+asyncpg://h/d")
    assert options["connect_args"] == {"timeout": 10, "server_settings": {"statement_timeout": "60000"}}


def test_pg8000_gets_no_timeout_as_that_would_end_queries_too() -> None:
    options = querywatch.engine_options("production", "postgresql+pg8000://h/d")
    assert options["connect_args"] == {"startup_params": {"statement_timeout": "60000"}}


@pytest.mark.parametrize("name", ["mysql", "mariadb"])
@pytest.mark.parametrize("driver", ["pymysql", "mysqldb", "aiomysql", "asyncmy"])
def test_mysql_drivers_get_both_servers_limits_each_in_a_comment(name: str, driver: str) -> None:
    """What a server does not know stands in a comment that it skips, so that connecting can't fail."""
    connect_args = querywatch.engine_options("production", f"{name}+{driver}://h/d")["connect_args"]
    assert connect_args.keys() == {"connect_timeout", "init_command"}
    assert connect_args["connect_timeout"] == 10
    assert "/*!50708 , SESSION max_execution_time = 60000 */" in connect_args["init_command"]
    assert "/*M!100101 , SESSION max_statement_time = 60 */" in connect_args["init_command"]


@pytest.mark.parametrize("url", ["oracle+oracledb://h/d", "mssql+pyodbc://h/d", "mysql+mysqlconnector://h/d"])
def test_other_drivers_get_a_pool_and_no_arguments_that_they_may_not_know(url: str) -> None:
    assert querywatch.engine_options("production", url) == PRODUCTION_POOL


@pytest.mark.parametrize("url", ["sqlite:///file.db", "sqlite+aiosqlite:///file.db"])
def test_a_sqlite_file_has_a_pool_and_nothing_to_connect_to(url: str) -> None:
    assert querywatch.engine_options("production", url) == PRODUCTION_POOL


@pytest.mark.filterwarnings("ignore:Selection of the SingletonThreadPool")
@pytest.mark.parametrize("url", MEMORY)
@pytest.mark.parametrize("profile", ["production", "testing"])
def test_an_in_memory_database_keeps_its_one_connection(profile: str, url: str) -> None:
    """A pool's second connection would be another, empty database, and so would the next one without a pool."""
    assert querywatch.engine_options(profile, url) == {}


# --- what the application and its environment say themselves ----------------------------------------------------------


def test_the_urls_own_parameters_win() -> None:
    """They are not repeated in connect_args, which would beat them."""
    options = querywatch.engine_options("production", f"{PSYCOPG}?connect_timeout=3&keepalives_idle=99")
    left = {name: value for name, value in LIBPQ.items() if name not in ("connect_timeout", "keepalives_idle")}
    assert options["connect_args"] == left


def test_options_in_the_url_are_kept_behind_ours() -> None:
    """PostgreSQL takes the last of two: theirs. Without these options the URL's search_path would be lost."""
    options = querywatch.engine_options("production", f"{PSYCOPG}?options=-csearch_path%3Dshop")
    assert options["connect_args"]["options"] == f"{STATEMENT_TIMEOUT} -csearch_path=shop"


def test_the_variables_of_libpq_win_as_they_would_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument beats PGCONNECT_TIMEOUT and PGOPTIONS, so it is left out, or has PGOPTIONS in it."""
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=shop")
    connect_args = querywatch.engine_options("production", PSYCOPG)["connect_args"]
    assert connect_args == {**KEEPALIVES, "options": f"{STATEMENT_TIMEOUT} -c search_path=shop"}


@pytest.mark.parametrize(("url", "service"), [(PSYCOPG, "shop"), (f"{PSYCOPG}?service=shop", "")])
def test_a_libpq_service_decides_by_itself(url: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", service) if service else None
    assert querywatch.engine_options("production", url) == PRODUCTION_POOL


def test_given_arguments_stay_key_by_key() -> None:
    """The rest of the profile is added around them, also inside of connect_args."""
    given = {"pool_size": 3, "pool_pre_ping": False, "connect_args": {"connect_timeout": 2, "sslmode": "require"}}
    filled = fill_in("production", PSYCOPG, given, DEFAULTS)
    connect_args = {**LIBPQ, "connect_timeout": 2, "sslmode": "require"}
    assert filled == {**PRODUCTION_POOL, "pool_size": 3, "pool_pre_ping": False, "connect_args": connect_args}
    assert given["connect_args"] == {"connect_timeout": 2, "sslmode": "require"}


def test_given_server_settings_stay_and_are_added_to() -> None:
    """The server settings of asyncpg are a table: an application that gives one of them still gets the limit."""
    given = {"connect_args": {"server_settings": {"jit": "off"}}}
    filled = fill_in("production", "postgresql+asyncpg://h/d", given, DEFAULTS)
    assert filled["connect_args"]["server_settings"] == {"statement_timeout": "60000", "jit": "off"}
    none = fill_in("production", "postgresql+asyncpg://h/d", {"connect_args": {"server_settings": {}}}, DEFAULTS)
    assert none["connect_args"]["server_settings"] == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-c statement_timeout=5s", f"{STATEMENT_TIMEOUT} -c statement_timeout=5s"),
        ("", ""),
        (f"{STATEMENT_TIMEOUT} -c jit=off", f"{STATEMENT_TIMEOUT} -c jit=off"),
    ],
)
def test_given_options_come_last_and_empty_ones_ask_for_none(given: str, expected: str) -> None:
    """`options=""` is the way out for a pooler that refuses them."""
    filled = fill_in("production", PSYCOPG, {"connect_args": {"options": given}}, DEFAULTS)
    assert filled["connect_args"]["options"] == expected


@pytest.mark.parametrize("poolclass", [NullPool, StaticPool, SingletonThreadPool])
def test_a_given_pool_class_gets_no_arguments_that_it_would_refuse(poolclass: type) -> None:
    filled = fill_in("production", PSYCOPG, {"poolclass": poolclass}, DEFAULTS)
    assert filled == {"poolclass": poolclass, "connect_args": LIBPQ}


def test_the_dialect_is_not_asked_for_a_pool_class_that_is_given() -> None:
    """SQLAlchemy 2.1 answers for this URL with a deprecation warning, of which the application has made sure."""
    given = {"poolclass": StaticPool}
    assert fill_in("production", "sqlite:///file:x?mode=memory&uri=true", given, DEFAULTS) == given


def test_a_pool_class_with_a_constructor_of_its_own_is_left_alone() -> None:
    """It may have settled the size itself, and would get it twice; one that inherits it all is a queue like any."""

    class Fixed(QueuePool):
        def __init__(self, creator: Any, **kwargs: Any) -> None:
            super().__init__(creator, pool_size=2, **kwargs)

    class Named(QueuePool):
        pass

    for poolclass, size in ((Fixed, 2), (Named, 20)):
        filled = fill_in("production", "sqlite:///f.db", {"poolclass": poolclass}, DEFAULTS)
        assert pool_of(sqlalchemy.create_engine("sqlite:///f.db", **filled))[:2] == (poolclass, size)


def test_a_given_pool_or_creator_gets_nothing_that_it_would_not_use() -> None:
    """A pool that exists takes no arguments, and whoever opens the connections himself needs none for that."""
    for given in ({"pool": object()}, {"creator": object()}):
        filled = fill_in("production", PSYCOPG, given, DEFAULTS)
        assert "connect_args" not in filled
        assert (filled == given) is ("pool" in given)


def test_testing_leaves_a_pool_that_the_application_has_sized() -> None:
    """`NullPool` refuses `pool_size`."""
    given = {"pool_size": 3}
    assert fill_in("testing", PSYCOPG, given, DEFAULTS) == given


# --- variables --------------------------------------------------------------------------------------------------------


def test_variables_replace_the_profiles_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_POOL_SIZE", "7")
    monkeypatch.setenv("DB_MAX_OVERFLOW", "0")
    options = querywatch.engine_options("production", "sqlite:///file.db")
    assert options == {**PRODUCTION_POOL, "pool_size": 7, "max_overflow": 0}
    assert querywatch.engine_options("testing", "sqlite:///file.db") == {"poolclass": NullPool}


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DB_POOL_SIZE", "many", "expected a whole number; using the default of the profile (production: 20,"),
        ("DB_POOL_SIZE", "0", "expected 1 or more; using the default of the profile (production: 20, development: 5)"),
        ("DB_MAX_OVERFLOW", "-2", "expected -1 or more; using the default of the profile (production: 40, dev"),
        (
            "QUERYWATCH_POOL_PROFILE",
            "prod",
            "expected one of production, development, testing; using the default none: engines are left as they are",
        ),
    ],
)
def test_a_bad_value_gets_one_warning_and_the_default(
    variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names variable, value and default, once for all engines."""
    monkeypatch.setenv(variable, value)
    with caplog.at_level(logging.WARNING, "querywatch"):
        for _ in range(2):
            assert querywatch.engine_options("production", "sqlite:///file.db") == PRODUCTION_POOL
    [message] = caplog.messages
    assert message.startswith(f"{variable}={value!r}: {told}")
    assert settings.from_environment().pool_profile is None


def test_a_profiles_numbers_in_warnings_are_the_profiles() -> None:
    for setting in settings.SETTINGS:
        if setting.variables[0] in ("DB_POOL_SIZE", "DB_MAX_OVERFLOW"):
            numbers = {name: PROFILES[name].pool[setting.field] for name in ("production", "development")}
            expected = ", ".join(f"{name}: {number}" for name, number in numbers.items())
            assert setting.told_default == f"of the profile ({expected})"


# --- real engines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_postgresql_has_the_limit_and_the_keepalives(driver: str, postgresql_url: str) -> None:
    """The server says 60 s; libpq says what it has set on the socket."""
    url = servers.with_driver(postgresql_url, driver)
    engine = sqlalchemy.create_engine(url, **querywatch.engine_options("production", url))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "1min"
        info: Any = connection.connection.driver_connection
        info = info.info.get_parameters() if driver == "psycopg" else info.info.dsn_parameters
        assert {name: info[name] for name in LIBPQ} == {name: str(value) for name, value in LIBPQ.items()}
    assert pool_of(engine) == (QueuePool, 20, 40)
    engine.dispose()


def test_postgresql_keeps_the_urls_options_beside_the_limit(postgresql_url: str) -> None:
    url = f"{servers.with_driver(postgresql_url, 'psycopg')}?options=-csearch_path%3Dshop"
    engine = sqlalchemy.create_engine(url, **querywatch.engine_options("production", url))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW search_path").scalar() == "shop"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "1min"
    engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("profile", ["production", "testing"])
def test_asynchronous_engines_take_the_same_options(profile: str, driver: str, postgresql_url: str) -> None:
    url = servers.with_driver(postgresql_url, driver)

    async def ask() -> Any:
        engine = create_async_engine(url, **querywatch.engine_options(profile, url))
        async with engine.connect() as connection:
            answer = (await connection.exec_driver_sql("SHOW statement_timeout")).scalar()
        await engine.dispose()
        return answer

    assert asyncio.run(ask()) == {"production": "1min", "testing": "0"}[profile]


def test_mariadb_has_its_limit_and_not_mysqls(mariadb_url: str) -> None:
    """MariaDB skips MySQL's variable, which it does not have, and takes its own: 60 s for any statement."""
    url = servers.with_driver(mariadb_url, "pymysql")
    engine = sqlalchemy.create_engine(url, **querywatch.engine_options("production", url))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT @@max_statement_time").scalar() == 60
    assert pool_of(engine) == (QueuePool, 20, 40)
    engine.dispose()


@pytest.mark.parametrize("profile", POOL_PROFILES)
@pytest.mark.parametrize("address", ["sqlite:///{}/file.db", "sqlite://"])
def test_sqlite_works_with_every_profile(
    profile: str, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A table made through one connection is there for the next, in memory too."""
    url = address.format(tmp_path)
    engine = sqlalchemy.create_engine(url, **querywatch.engine_options(profile, url))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x INTEGER)")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
    assert isinstance(engine.pool, NullPool) is (profile == "testing" and bool(engine.url.database))
    engine.dispose()
