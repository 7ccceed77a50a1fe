"""Every case of the table has exactly its findings, on every database and version of SQLAlchemy."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.ext.asyncio import create_async_engine

import cases
import servers
from cases.aio import AsyncDatabase
from cases.case import Case, Database, teach_sqlite_to_sleep
from cases.models import Author, fill
from querywatch import testing
from querywatch.testing import Watched

matrix = pytest.mark.sqlalchemy_matrix

CALM: dict[str, Any] = {
    "slow_query_threshold": 30.0,
    "critical_query_threshold": 60.0,
    "slow_request_threshold": 60.0,
    "max_queries_per_request": 1000,
}
"""A busy machine makes no query and no case slow, and no case has too many, unless that is what it is about."""


IMPATIENT = {
    "postgresql": "ALTER DATABASE {database} SET lock_timeout = '10s'",
    "mysql": "SET GLOBAL lock_wait_timeout = 10",
}
"""A test that fails with a transaction open must not keep the next one waiting."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql+psycopg"])
def driver_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that all tests of one driver share: each fills it anew."""
    dialect = request.param.partition("+")[0]
    if dialect == "sqlite":
        yield f"{request.param}:///{tmp_path_factory.mktemp('database') / 'test.db'}"
        return
    fixture = {"postgresql": "postgresql_server", "mysql": "mariadb_server"}[dialect]
    server: servers.Server = request.getfixturevalue(fixture)
    url = server.new_database()
    server.sql(IMPATIENT[dialect].format(database=url.rpartition("/")[2]))
    yield f"{request.param}://{url.partition('://')[2]}"
    server.drop_database(url)


@dataclass
class Shared:
    """An engine whose tables are filled anew after a case that has committed something."""

    engine: Engine
    is_dirty: bool = True

    def filled(self) -> Database:
        if self.is_dirty:
            fill(self.engine)
            self.is_dirty = False
        return Database(self.engine)


@pytest.fixture(scope="module")
def shared(driver_url: str) -> Iterator[Shared]:
    engine = create_engine(driver_url)
    shared = Shared(engine)
    if engine.dialect.name == "sqlite":
        teach_sqlite_to_sleep(engine)

    @event.listens_for(engine, "commit")
    def _on_commit(connection: Connection) -> None:
        shared.is_dirty = True

    yield shared
    engine.dispose()


@pytest.fixture
def database(shared: Shared) -> Database:
    return shared.filled()


def check(case: Case, watched: Watched) -> None:
    assert case.problems(watched.findings) == [], watched
    assert case.queries in (None, watched.queries)


@matrix
@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_a_scenario_has_exactly_its_findings(case: Case, database: Database) -> None:
    """Kind, key, runs, distinct parents or parameters, severity, line, advice and id of every finding are as told."""
    with testing.watch(**CALM | case.settings) as watched:
        case.scenario(database)
    check(case, watched)


@pytest.mark.parametrize("driver_url", ["postgresql+psycopg2", "mysql+pymysql"], indirect=True)
@pytest.mark.parametrize("case", cases.OF_DRIVERS, ids=lambda case: case.name)
def test_the_findings_do_not_depend_on_the_driver(case: Case, database: Database) -> None:
    with testing.watch(**CALM | case.settings) as watched:
        case.scenario(database)
    check(case, watched)


@matrix
@pytest.mark.parametrize("driver_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg"], indirect=True)
@pytest.mark.parametrize("case", cases.ASYNC_CASES, ids=lambda case: case.name)
def test_a_coroutine_has_exactly_its_findings(case: Case, driver_url: str) -> None:
    check(case, asyncio.run(watch_coroutine(case, driver_url)))


async def watch_coroutine(case: Case, url: str) -> Watched:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(fill)
        with testing.watch(**CALM | case.settings) as watched:
            await case.scenario(AsyncDatabase(engine))
        return watched
    finally:
        await engine.dispose()


def test_two_requests_at_once_never_mix(database: Database) -> None:
    """Each sends three of the five queries that would make an N+1, turn by turn with the other."""
    turn = threading.Barrier(2)
    watched: list[Watched] = []

    def request() -> None:
        with testing.watch(**CALM) as seen, database.session() as session:
            watched.append(seen)
            for author in session.scalars(select(Author).limit(3)).all():
                turn.wait(timeout=30)
                print(len(author.books))

    threads = [threading.Thread(target=request) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(seen.queries, seen.findings) for seen in watched] == [(4, []), (4, [])]


def test_a_finding_has_the_same_id_in_every_run(database: Database) -> None:
    def run() -> list[Any]:
        with testing.watch(**CALM | {"n_plus_one_threshold": 2}) as watched, database.session() as session:
            for author in session.scalars(select(Author)).all():
                print(len(author.books), author.loans.count())
        return sorted(finding.id for finding in watched.findings)

    first = run()
    assert (len(first), first) == (2, run())


def test_no_two_cases_have_one_name() -> None:
    names = [case.name for case in cases.CASES]
    assert sorted(set(names)) == sorted(names)
