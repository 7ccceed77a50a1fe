"""The pipeline with providers of its own in this process, and what it told: for the tests on connection pools."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry._logs import LogRecord
from opentelemetry._logs import _internal as logs_api
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import create_async_engine

from querywatch import pipeline
from querywatch.metrics import views
from querywatch.pool.state import Pools, PoolState
from querywatch.pool.watch import PoolWatch
from querywatch.settings import Settings

POOL = "db.client.connection.pool.name"


@dataclass
class Observed:
    """What the pipeline tells, and the parts of it that tests drive by hand."""

    reader: InMemoryMetricReader
    records: InMemoryLogRecordExporter
    pools: Pools
    watch: PoolWatch

    def points(self, metric: str) -> list[Any]:
        """The data points of a metric, collected now."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        found = (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == metric)
        return [point for found_metric in found for point in found_metric.data.data_points]

    def values(self, metric: str) -> dict[str, float]:
        """The values of a metric by the name of the pool."""
        return {str(point.attributes[POOL]): point.value for point in self.points(metric)}

    def value(self, metric: str) -> float:
        """The value of a metric that one pool alone has."""
        [value] = self.values(metric).values()
        return value

    def states(self) -> tuple[int, int]:
        """Used and idle connections of the one pool."""
        points = self.points("db.client.connection.count")
        counts = {point.attributes["db.client.connection.state"]: point.value for point in points}
        assert (len(points), set(counts)) == (2, {"used", "idle"})
        return counts["used"], counts["idle"]

    def histogram(self, metric: str) -> Any:
        """The point of a histogram that one pool alone has."""
        [point] = self.points(metric)
        return point

    def logs(self, event: str) -> list[LogRecord]:
        """The log records of an event so far, `connection_leak` for example."""
        records = (data.log_record for data in self.records.get_finished_logs())
        return [record for record in records if record.event_name == f"querywatch.{event}"]

    def state(self, engine: Engine) -> PoolState:
        """What is known of an engine's pool."""
        return self.pools.of(engine)


@contextmanager
def observed(monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None) -> Iterator[Observed]:
    """Install the pipeline with SDK providers that are the global ones meanwhile."""
    settings = settings or Settings()
    reader, records = InMemoryMetricReader(), InMemoryLogRecordExporter()
    loggers = LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(records))
    meters = MeterProvider([reader], views=views(settings))
    monkeypatch.setattr(metrics_api, "_METER_PROVIDER", meters)
    monkeypatch.setattr(logs_api, "_LOGGER_PROVIDER", loggers)
    monkeypatch.setattr(trace_api, "_TRACER_PROVIDER", TracerProvider())
    pipeline.uninstall()
    installed = pipeline.install(settings)
    assert installed is not None
    [hook] = [hook for hook in installed._hooks if type(hook).__name__ == "PoolHook"]
    parts: Any = hook
    try:
        yield Observed(reader, records, parts._pools, parts._watch)
    finally:
        pipeline.uninstall()
        meters.shutdown()


def run_async(url: str, work: Callable[[Any], Any], **options: Any) -> Any:
    """Run a coroutine function with an asynchronous engine, which is disposed of afterwards."""

    async def run() -> Any:
        engine = create_async_engine(url, **options)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())
