"""Every case of the table has exactly its findings, on every database and version of SQLAlchemy."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine

import cases
import servers
from cases.case import Case, Database, teach_sqlite_to_sleep
from cases.models import fill
from querywatch import testing

pytestmark = pytest.mark.sqlalchemy_matrix

CALM = {"slow_query_threshold": 30.0, "critical_query_threshold": 60.0, "max_queries_per_request": 1000}
"""A busy machine makes no query slow, and no case has too many, unless that is what it is about."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql+psycopg"])
def driver_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that all tests of one driver share: each fills it anew."""
    dialect, _, driver = request.param.partition("+")
    if dialect == "sqlite":
        yield f"{request.param}:///{tmp_path_factory.mktemp('database') / 'test.db'}"
        return
    server: servers.Server = request.getfixturevalue(
        {"postgresql": "postgresql_server", "mysql": "mariadb_server"}[dialect]
    )
    url = server.new_database()
    yield servers.with_driver(url, driver)
    server.drop_database(url)


@pytest.fixture
def database(driver_url: str) -> Iterator[Database]:
    engine = create_engine(driver_url)
    if engine.dialect.name == "sqlite":
        teach_sqlite_to_sleep(engine)
    try:
        fill(engine)
        yield Database(engine)
    finally:
        engine.dispose()


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_a_scenario_has_exactly_its_findings(case: Case, database: Database) -> None:
    """Kind, key, runs, distinct parents or parameters, severity, line, advice and id of every finding are as told."""
    with testing.watch(**CALM | case.settings) as watched:
        case.scenario(database)
    assert case.problems(watched.findings) == [], watched
    assert case.queries in (None, watched.queries)
