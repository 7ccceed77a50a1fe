"""`querywatch.testing`: run code, get its findings."""

import contextvars
import threading
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, text

from querywatch import pipeline, testing
from querywatch.findings import Kind
from querywatch.settings import Settings


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


def loop(engine: Engine, runs: int) -> None:
    with engine.connect() as connection:
        for n in range(runs):
            connection.execute(text("SELECT :n"), {"n": n})


def test_a_block_has_its_findings_when_it_has_ended(engine: Engine) -> None:
    with testing.watch() as watched:
        loop(engine, 5)
        assert watched.findings == []
    assert [finding.kind for finding in watched.findings] == [Kind.N_PLUS_ONE]
    assert watched.queries == 5
    assert watched.duration > 0


def test_single_settings_can_be_changed(engine: Engine) -> None:
    with testing.watch(n_plus_one_threshold=2, max_queries_per_request=1) as watched:
        loop(engine, 2)
    assert {finding.kind for finding in watched.findings} == {Kind.N_PLUS_ONE, Kind.QUERY_VOLUME}


def test_settings_can_be_handed_over_and_changed(engine: Engine) -> None:
    with testing.watch(Settings(n_plus_one_threshold=2), ignore=("*",)) as watched:
        loop(engine, 2)
    assert watched.findings == []


def test_a_setting_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(TypeError, match="n_plus_one_treshold"), testing.watch(n_plus_one_treshold=2):
        pass


def test_environment_variables_do_not_count(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test means the same on every machine, also where QueryWatch is switched off."""
    monkeypatch.setenv("QUERYWATCH_ENABLED", "false")
    monkeypatch.setenv("QUERYWATCH_N_PLUS_ONE_THRESHOLD", "1000")
    with testing.watch() as watched:
        loop(engine, 5)
    assert len(watched.findings) == 1


def test_queries_outside_of_the_block_do_not_count(engine: Engine) -> None:
    loop(engine, 5)
    with testing.watch() as watched:
        loop(engine, 1)
    loop(engine, 5)
    assert (watched.queries, watched.findings) == (1, [])


def test_an_exception_passes_and_the_findings_are_there(engine: Engine) -> None:
    seen: list[testing.Watched] = []

    def fail() -> None:
        with testing.watch() as watched:
            seen.append(watched)
            loop(engine, 5)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert [len(watched.findings) for watched in seen] == [1]


def test_an_inner_block_keeps_its_queries_to_itself(engine: Engine) -> None:
    with testing.watch() as outer:
        loop(engine, 3)
        with testing.watch() as inner:
            loop(engine, 5)
        loop(engine, 1)
    assert (outer.queries, inner.queries) == (4, 5)
    assert (outer.findings, len(inner.findings)) == ([], 1)


def test_a_thread_that_outlives_the_block_is_not_counted(engine: Engine) -> None:
    ended, done = threading.Event(), threading.Event()

    def late() -> None:
        ended.wait(30)
        loop(engine, 5)
        done.set()

    with testing.watch() as watched:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(late,))
        thread.start()
    ended.set()
    thread.join()
    assert done.is_set()
    assert (watched.queries, watched.findings) == (0, [])


def application(engine: Engine) -> Flask:
    app = Flask("shop")

    @app.get("/authors/<int:count>")
    def authors(count: int) -> Iterator[str]:
        def lines() -> Iterator[str]:
            with engine.connect() as connection:
                for n in range(count):
                    yield str(connection.scalar(text("SELECT :n"), {"n": n}))

        return lines()

    return app


def test_requests_of_a_test_client_belong_to_the_block(engine: Engine) -> None:
    """All of them together, streaming bodies included."""
    client = application(engine).test_client()
    with testing.watch() as watched:
        assert [client.get("/authors/3").text, client.get("/authors/2").text] == ["012", "01"]
    assert watched.queries == 5
    assert watched.findings == []
    with testing.watch() as watched:
        assert client.get("/authors/5").text == "01234"
    assert [(finding.kind, finding.count) for finding in watched.findings] == [(Kind.N_PLUS_ONE, 5)]


@pytest.mark.parametrize("pattern", ["/authors/*", "/authors/<int:count>"])
def test_a_route_can_be_ignored(engine: Engine, pattern: str) -> None:
    client = application(engine).test_client()
    with testing.watch(ignore=(pattern,)) as watched:
        assert client.get("/authors/5").text == "01234"
    assert (watched.queries, watched.findings) == (5, [])


def test_what_is_printed_names_place_and_fix(engine: Engine) -> None:
    with testing.watch() as watched:
        loop(engine, 5)
    head, line = str(watched).splitlines()
    (finding,) = watched.findings
    assert head == "5 queries, 1 findings"
    assert line.startswith(f"- n_plus_one {finding.key} at test_testing.py:")
    assert line.endswith(finding.advice)


def test_it_works_again_after_the_pipeline_was_taken_out(engine: Engine) -> None:
    for _ in range(2):
        pipeline.uninstall()
        with testing.watch() as watched:
            loop(engine, 5)
        assert len(watched.findings) == 1
