"""A pool size from what this process has measured."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

import querywatch
from querywatch import pipeline


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    pipeline.uninstall()
    pipeline.install(querywatch.Settings())
    made = create_engine(f"sqlite:///{tmp_path}/shop.db")
    yield made
    made.dispose()
    pipeline.uninstall()


def test_the_size_comes_from_measured_use_and_rate(engine: Engine) -> None:
    """As many checkouts a second as were seen, each as long as it was, with what only the caller knows."""
    for _ in range(20):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    installed = pipeline.install()
    assert installed is not None
    state = installed.pools.of(engine)
    expected = querywatch.recommend_pool_size(use_time=state.use_time, checkout_rate=state.peak_rate, threads=8)
    assert state.use_time > 0
    assert state.peak_rate > 0
    assert querywatch.recommend_pool_size_of(engine, threads=8) == expected


def test_nothing_measured_is_said(engine: Engine) -> None:
    """A pool that no connection has come back to has no use time."""
    with pytest.raises(RuntimeError, match=r"no connection of .*shop\.db has been returned yet"):
        querywatch.recommend_pool_size_of(engine)
    pipeline.uninstall()
    with pytest.raises(RuntimeError, match="not installed in this process"):
        querywatch.recommend_pool_size_of(engine)
