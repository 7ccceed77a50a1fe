"""Views and instruments: bucket boundaries on the thresholds, and no attribute without a bound."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import engine as contrib_engine
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from pools import Observed, observed
from querywatch import settings as settings_module
from querywatch.hooks import adopt
from querywatch.metrics import MAX_SUMMARIES, Instruments, OperationDuration, boundaries, views
from querywatch.pool.instruments import PoolInstruments
from querywatch.pool.state import Pools
from querywatch.settings import Settings
from querywatch.sql import analyse

DURATION = "db.client.operation.duration"
HTTP = "http.server.request.duration"
QUERIES = "querywatch.request.queries"


class Exported:
    """A provider, with or without QueryWatch's views, and what it collects."""

    def __init__(self, settings: Settings | None) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], views=views(settings) if settings is not None else ())
        self.meter = self.provider.get_meter("anybody")

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = (m for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics)
        return [point for metric in found if metric.name == name for point in metric.data.data_points]

    def names(self) -> set[str]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {metric.name for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics}


def measured(settings: Settings, name: str, value: float) -> Any:
    """The histogram's point after one value, with the views of these settings."""
    exported = Exported(settings)
    exported.meter.create_histogram(name, "s").record(value)
    [point] = exported.points(name)
    return point


@pytest.mark.parametrize(
    ("name", "thresholds"), [(DURATION, {0.5, 2.0}), (HTTP, {1.0}), (QUERIES, {20.0})], ids=["db", "http", "queries"]
)
def test_boundaries_lie_on_the_thresholds(name: str, thresholds: set[float]) -> None:
    """Whoever's instrument it is; ascending, each once."""
    edges = measured(Settings(), name, 1.0).explicit_bounds
    assert thresholds <= set(edges)
    assert list(edges) == sorted(set(edges))


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        (DURATION, "QUERYWATCH_SLOW_QUERY_THRESHOLD", "0.123"),
        (DURATION, "SLOW_QUERY_THRESHOLD", "0.321"),
        (DURATION, "QUERYWATCH_CRITICAL_QUERY_THRESHOLD", "7.77"),
        (HTTP, "QUERYWATCH_SLOW_REQUEST_THRESHOLD", "0.42"),
        (QUERIES, "QUERYWATCH_MAX_QUERIES_PER_REQUEST", "33"),
    ],
)
def test_an_environment_variable_moves_the_boundary(name: str, variable: str, value: str) -> None:
    edges = measured(settings_module.load({variable: value}), name, 1.0).explicit_bounds
    assert float(value) in edges
    assert float(value) not in measured(Settings(), name, 1.0).explicit_bounds


@pytest.mark.parametrize(("value", "slow"), [(0.5, 0), (0.500001, 1)])
def test_exactly_the_threshold_is_not_over_it(value: float, slow: int) -> None:
    """The bucket "over 500 ms" has what is slow, and nothing else: thresholds and buckets both compare strictly."""
    point = measured(Settings(), DURATION, value)
    over = list(point.explicit_bounds).index(0.5) + 1
    assert sum(point.bucket_counts[over:]) == slow


def test_a_threshold_that_is_a_usual_boundary_is_there_once() -> None:
    assert boundaries((0.1, 0.5, 1.0), 0.5, 0.7) == [0.1, 0.5, 0.7, 1.0]


def test_the_deprecated_metric_of_contrib_is_dropped() -> None:
    exported = Exported(Settings())
    exported.meter.create_up_down_counter("db.client.connections.usage").add(1, {"state": "used"})
    exported.meter.create_counter("kept").add(1)
    assert exported.names() == {"kept"}


def test_unbounded_attributes_are_dropped_whoever_sets_them() -> None:
    """Another instrumentation's `db.query.text` makes no series, and the standard's bounded attributes stay."""
    exported = Exported(Settings())
    bounded = {"db.system.name": "postgresql", "db.query.summary": "SELECT books", "error.type": "Timeout"}
    foreign = exported.meter.create_histogram(DURATION, "s")
    for number in range(3):
        foreign.record(0.1, {**bounded, "db.query.text": f"SELECT {number}", "db.query.parameter.id": str(number)})
    [point] = exported.points(DURATION)
    assert (dict(point.attributes), point.count) == (bounded, 3)


def test_without_views_the_instruments_bring_their_boundaries() -> None:
    """Under another distro: advisory parameters put the boundaries of our own instruments on the thresholds."""
    exported, settings = Exported(None), Settings(slow_query_threshold=0.123, max_queries_per_request=33)
    Instruments(exported.meter, settings).request_queries.record(1)
    OperationDuration(exported.meter, settings).record(0.1, {}, analyse("SELECT 1"), None)
    pool = PoolInstruments(exported.meter, Pools(settings), settings)
    pool.wait_time.record(0.1, {})
    [queries], [durations], [waits] = (
        exported.points(name) for name in (QUERIES, DURATION, "db.client.connection.wait_time")
    )
    assert 33.0 in queries.explicit_bounds
    assert {0.123, 2.0} <= set(durations.explicit_bounds)
    assert waits.explicit_bounds[:3] == (0.0001, 0.001, 0.005)


def test_summaries_beyond_the_limit_are_other() -> None:
    """One series for each of the first 200 summaries, which keep theirs, and one for all that come later."""
    exported = Exported(Settings())
    durations = OperationDuration(exported.meter, Settings())
    for number in [*range(MAX_SUMMARIES + 50), 0]:
        durations.record(0.1, {}, analyse(f"SELECT * FROM table_{number}"), None)
    counts = {point.attributes["db.query.summary"]: point.count for point in exported.points(DURATION)}
    assert len(counts) == MAX_SUMMARIES + 1
    assert (counts["SELECT table_0"], counts[f"SELECT table_{MAX_SUMMARIES - 1}"], counts["other"]) == (2, 1, 50)


# --- through an engine ------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observed]:
    with observed(monkeypatch, Settings(slow_query_threshold=0.05)) as seen:
        yield seen


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")

    @event.listens_for(engine, "connect")
    def add_sleep(connection: Any, _record: Any) -> None:
        import time

        connection.create_function("sleep", 1, time.sleep)

    return engine


@pytest.mark.sqlalchemy_matrix
def test_durations_of_queries(seen: Observed, engine: Engine) -> None:
    """One value for each execution, by database, operation and summary, and by error where there was one; no text."""
    with engine.connect() as connection:
        for number in range(3):
            connection.execute(text("SELECT name FROM sqlite_master WHERE name = :name"), {"name": str(number)})
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT 1 FROM nowhere"))
    points = {point.attributes["db.query.summary"]: point for point in seen.points(DURATION)}
    good, bad = points["SELECT sqlite_master"], points["SELECT nowhere"]
    assert (good.count, bad.count) == (3, 1)
    assert dict(good.attributes) == {
        "db.system.name": "sqlite",
        "db.namespace": engine.url.database,
        "db.operation.name": "SELECT",
        "db.query.summary": "SELECT sqlite_master",
    }
    assert bad.attributes["error.type"] == "OperationalError"


@pytest.mark.sqlalchemy_matrix
def test_the_exemplar_of_the_slow_bucket_is_the_slow_span(seen: Observed, engine: Engine) -> None:
    """From the bucket over the threshold to the trace and the span of the query that is in it."""
    spans: list[Any] = []

    @event.listens_for(engine, "after_cursor_execute", insert=True)
    def keep(_conn: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        if "sleep" in statement:
            spans.append(context._otel_span.get_span_context())

    with trace.get_tracer("test").start_as_current_span("request"), engine.connect() as connection:
        connection.execute(text("SELECT name FROM sqlite_master"))
        connection.execute(text("SELECT sleep(0.08)"))
    exemplars = [(point, exemplar) for point in seen.points(DURATION) for exemplar in point.exemplars]
    [(point, exemplar)] = exemplars
    assert exemplar.value > 0.05
    assert 0.05 in point.explicit_bounds
    assert [(span.trace_id, span.span_id) for span in spans] == [(exemplar.trace_id, exemplar.span_id)]


def test_we_step_back_when_contrib_records_durations(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """The day contrib has a duration histogram there is one value for each query, not two: ours is not recorded."""
    assert adopt.contrib_records_durations() is False
    monkeypatch.setattr(contrib_engine, "_OPERATION_DURATION", object(), raising=False)
    with observed(monkeypatch) as seen, engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        assert seen.points(DURATION) == []


@pytest.mark.slow
def test_the_configurator_installs_the_views(tmp_path: Path) -> None:
    """Under the wrapper, with thresholds from the environment: seen over OTLP, contrib's deprecated metric dropped."""
    from e2e import models
    from e2e.program import TESTS, Program, environment, free_port, last_points, wrapper
    from querywatch.demo.receiver import Receiver

    url, port = f"sqlite:///{tmp_path}/shop.db", free_port()
    models.fill(url)
    thresholds = {"QUERYWATCH_SLOW_QUERY_THRESHOLD": "0.123", "QUERYWATCH_SLOW_REQUEST_THRESHOLD": "0.42"}
    with Receiver() as receiver:
        command = [*wrapper(), sys.executable, str(TESTS / "e2e" / "shop.py"), str(port)]
        variables = environment(receiver.endpoint, DATABASE_URL=url, **thresholds)
        with Program(command, variables, tmp_path / "output", port) as program:
            assert program.get("/authors").status == 200
            program.stop()
        edges = {name: set(last_points(receiver, name)[0].bounds) for name in (DURATION, HTTP)}
        assert {0.123, 2.0} <= edges[DURATION]
        assert 0.42 in edges[HTTP]
        assert last_points(receiver, "db.client.connections.usage") == []
