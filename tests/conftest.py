"""What all tests share: a clean environment, and real databases.

Nothing here imports OpenTelemetry: a test that sets up providers of its own must be the first to do so.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import servers

_MISSING = pytest.StashKey[list[str]]()
_OUR_VARIABLES = ("OTEL_", "QUERYWATCH_", "SLOW_QUERY_THRESHOLD", "SLOW_REQUEST_THRESHOLD", "DATABASE_URL", "DB_")


def pytest_configure(config: pytest.Config) -> None:
    """Forget the developer's own settings before a test module, or a program that it starts, reads them."""
    config.stash[_MISSING] = []
    for name in [name for name in os.environ if name.startswith(_OUR_VARIABLES)]:
        del os.environ[name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    missing = config.stash[_MISSING]
    if missing:
        terminalreporter.section("LEFT OUT", sep="!", red=True, bold=True)
        terminalreporter.write_line("\n".join(missing))


def _serve(
    config: pytest.Config, name: str, server: Callable[[], AbstractContextManager[servers.Server]]
) -> Iterator[servers.Server]:
    """Run a server for the session. Without its programs CI fails; elsewhere the summary says what was left out."""
    try:
        with server() as running:
            yield running
    except servers.ServerMissingError as missing:
        reason = f"every test on {name}: {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run {reason}")
        config.stash[_MISSING].append(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def postgresql_server(pytestconfig: pytest.Config) -> Iterator[servers.Server]:
    """A PostgreSQL server that other tests use too: a test that stops it starts it again."""
    yield from _serve(pytestconfig, "PostgreSQL", servers.postgresql)


@pytest.fixture(scope="session")
def mariadb_server(pytestconfig: pytest.Config) -> Iterator[servers.Server]:
    """A MariaDB server that other tests use too: a test that stops it starts it again."""
    yield from _serve(pytestconfig, "MariaDB", servers.mariadb)


def _database(server: servers.Server) -> Iterator[str]:
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture
def postgresql_url(postgresql_server: servers.Server) -> Iterator[str]:
    """An empty PostgreSQL database, without a driver: `servers.with_driver(postgresql_url, "psycopg")`."""
    yield from _database(postgresql_server)


@pytest.fixture
def mariadb_url(mariadb_server: servers.Server) -> Iterator[str]:
    """An empty MariaDB database, without a driver: `servers.with_driver(mariadb_url, "pymysql")`."""
    yield from _database(mariadb_server)


@pytest.fixture(params=["sqlite", "postgresql+psycopg"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database on SQLite, then on PostgreSQL; other drivers by indirect parametrisation.

    `@pytest.mark.parametrize("database_url", ["sqlite+aiosqlite", "mysql+pymysql"], indirect=True)`
    """
    dialect, _, driver = request.param.partition("+")
    if dialect == "sqlite":
        return f"{request.param}:///{tmp_path / 'test.db'}"
    fixture = {"postgresql": "postgresql_url", "mysql": "mariadb_url"}[dialect]
    return servers.with_driver(request.getfixturevalue(fixture), driver)
