"""QUERYWATCH_POOL_PROFILE: engines of an application that knows nothing of it get what it did not say itself."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy.engine import Engine, engine_from_config
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool, QueuePool

import servers
from e2e.program import TESTS, environment, wrapper
from querywatch.hooks.profile import ProfileHook
from querywatch.settings import DEFAULTS

pytestmark = pytest.mark.sqlalchemy_matrix


@pytest.fixture
def production() -> Iterator[None]:
    """The hook as the pipeline installs it for QUERYWATCH_POOL_PROFILE=production."""
    hook = ProfileHook("production", DEFAULTS)
    hook.install()
    yield
    hook.uninstall()


def size_of(engine: Engine) -> tuple[int, int]:
    """Return the size of an engine's pool, and its overflow."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.size(), engine.pool._max_overflow


@pytest.mark.usefixtures("production")
def test_engines_get_the_profile_under_every_public_name() -> None:
    """`sqlalchemy`, `sqlalchemy.engine`, engines from a configuration (Flask-SQLAlchemy's way), asynchronous ones."""
    url = "sqlite:///file.db"
    engines = [
        sqlalchemy.create_engine(url),
        sqlalchemy.engine.create_engine(url),
        engine_from_config({"sqlalchemy.url": url}),
        sqlalchemy.ext.asyncio.create_async_engine("sqlite+aiosqlite:///file.db").sync_engine,
        sqlalchemy.ext.asyncio.async_engine_from_config({"sqlalchemy.url": "sqlite+aiosqlite:///f.db"}).sync_engine,
    ]
    assert [size_of(engine) for engine in engines] == [(20, 40)] * 5


@pytest.mark.usefixtures("production")
def test_what_the_application_gives_wins_under_the_hook() -> None:
    """Also where it comes as texts from a configuration file, or as a pool that takes none of ours."""
    assert size_of(sqlalchemy.create_engine("sqlite:///f.db", pool_size=2)) == (2, 40)
    texts = {"sqlalchemy.url": "sqlite:///f.db", "sqlalchemy.pool_size": "3", "sqlalchemy.echo": "false"}
    assert size_of(engine_from_config(texts)) == (3, 40)
    pool = sqlalchemy.create_engine("sqlite:///f.db", pool_size=1).pool
    assert sqlalchemy.create_engine("sqlite:///f.db", pool=pool).pool is pool
    assert isinstance(sqlalchemy.create_engine("sqlite:///f.db", poolclass=NullPool).pool, NullPool)


@pytest.mark.usefixtures("production")
def test_the_applications_errors_stay_sqlalchemys() -> None:
    """A wrong URL, no URL, or an argument that nobody knows raise what they raise alone."""
    with pytest.raises(ArgumentError, match="Could not parse SQLAlchemy URL"):
        sqlalchemy.create_engine("nonsense")
    with pytest.raises(TypeError, match="url"):
        sqlalchemy.create_engine()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'nonsense'"):
        sqlalchemy.create_engine("sqlite://", nonsense=1)


@pytest.mark.usefixtures("production")
def test_an_error_of_ours_leaves_the_applications_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is then what it is without a profile."""
    monkeypatch.setattr("querywatch.guard.reraise", False)
    monkeypatch.setattr("querywatch.hooks.profile.fill_in", lambda *_: 1 / 0)
    assert size_of(sqlalchemy.create_engine("sqlite:///f.db", pool_size=2)) == (2, 10)


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("ours_leaves_first", [True, False])
def test_contribs_wrapper_comes_and_goes_beside_ours(ours_first: bool, ours_leaves_first: bool) -> None:
    """Whoever is first in or out: neither takes the other's wrapper, and at the end SQLAlchemy is as it was."""
    originals = [sqlalchemy.create_engine, sqlalchemy.engine.create_engine, sqlalchemy.ext.asyncio.create_async_engine]
    ours, contrib = ProfileHook("production", DEFAULTS), SQLAlchemyInstrumentor()
    instrument = [ours.install, lambda: contrib.instrument(skip_dep_check=True)]
    remove = [ours.uninstall, contrib.uninstrument]
    for step in instrument if ours_first else reversed(instrument):
        step()
    assert size_of(sqlalchemy.create_engine("sqlite:///f.db")) == (20, 40)
    assert contribs_listen(sqlalchemy.create_engine("sqlite:///f.db"))

    (remove if ours_leaves_first else remove[::-1])[0]()
    engine = sqlalchemy.create_engine("sqlite:///f.db")
    assert (size_of(engine) == (20, 40)) is not ours_leaves_first
    assert contribs_listen(engine) is ours_leaves_first

    (remove if ours_leaves_first else remove[::-1])[1]()
    left = [sqlalchemy.create_engine, sqlalchemy.engine.create_engine, sqlalchemy.ext.asyncio.create_async_engine]
    assert all(one is other for one, other in zip(left, originals, strict=True))


def contribs_listen(engine: Engine) -> bool:
    return any("opentelemetry" in listener.__module__ for listener in engine.dispatch.before_cursor_execute)


# --- under the wrapper ------------------------------------------------------------------------------------------------

APPLICATION = """
import json
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from querywatch import pipeline

app = Flask(__name__)
app.config.from_prefixed_env()
db = SQLAlchemy(app)

@app.get("/")
def index():
    with db.engine.connect() as connection:
        limit = connection.exec_driver_sql("SHOW statement_timeout").scalar()
    pool = db.engine.pool
    return {"limit": limit, "size": pool.size(), "overflow": pool._max_overflow, "timeout": pool.timeout()}

answer = app.test_client().get("/").json
hooks = [type(hook).__name__ for hook in pipeline._installed._hooks]
print(json.dumps({**answer, "hooked": "ProfileHook" in hooks}))
"""


def run_wrapped(directory: Path, url: str, **variables: str) -> tuple[dict[str, Any], str]:
    """Return what the application answered under the real wrapper, and what went to stderr."""
    program = directory / "application.py"
    program.write_text(APPLICATION)
    silent = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    told = environment("", FLASK_SQLALCHEMY_DATABASE_URI=url, **silent, **variables)
    command = [*wrapper(), sys.executable, str(program)]
    done = subprocess.run(command, env=told, cwd=TESTS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_an_unchanged_flask_application_gets_the_profile(postgresql_url: str, tmp_path: Path) -> None:
    """Flask-SQLAlchemy under the real wrapper: pool, overflow and the server's limit, beside contrib's tracing."""
    url = servers.with_driver(postgresql_url, "psycopg")
    answer, errors = run_wrapped(tmp_path, url, QUERYWATCH_POOL_PROFILE="production", DB_MAX_OVERFLOW="4")
    assert answer == {"limit": "1min", "size": 20, "overflow": 4, "timeout": 30, "hooked": True}
    assert "failed" not in errors


def test_an_applications_own_engine_options_win_under_the_wrapper(postgresql_url: str, tmp_path: Path) -> None:
    """SQLALCHEMY_ENGINE_OPTIONS stay; the rest is filled in around them."""
    own = {"pool_size": 2, "connect_args": {"options": "-c statement_timeout=7s"}}
    answer, _ = run_wrapped(
        tmp_path,
        servers.with_driver(postgresql_url, "psycopg2"),
        QUERYWATCH_POOL_PROFILE="production",
        FLASK_SQLALCHEMY_ENGINE_OPTIONS=json.dumps(own),
    )
    assert (answer["limit"], answer["size"], answer["overflow"]) == ("7s", 2, 40)


def test_without_the_setting_nothing_is_replaced(postgresql_url: str, tmp_path: Path) -> None:
    """Off means absent: SQLAlchemy's own defaults, and no hook."""
    answer, _ = run_wrapped(tmp_path, servers.with_driver(postgresql_url, "psycopg"), DB_POOL_SIZE="9")
    assert answer == {"limit": "0", "size": 5, "overflow": 10, "timeout": 30, "hooked": False}


def test_settings_given_by_hand_count_in_the_hook() -> None:
    """`querywatch.instrument(Settings(…))` needs no variables."""
    hook = ProfileHook("production", dataclasses.replace(DEFAULTS, pool_size=3, max_overflow=1))
    hook.install()
    try:
        assert size_of(sqlalchemy.create_engine("sqlite:///f.db")) == (3, 1)
    finally:
        hook.uninstall()
