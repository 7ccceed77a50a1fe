"""The demo's pools: what it makes of received metrics and findings, as data and as text."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from querywatch import semconv
from querywatch.demo.finding import Finding
from querywatch.demo.pools import Pool, pools, quantile
from querywatch.demo.render import Renderer
from querywatch.demo.report import Report
from querywatch.demo.telemetry import MetricPoint, Origin

BOUNDS = (0.001, 0.01, 0.1, 1.0)


def point(metric: str, pool: str = "office", instance: str = "a", **values: Any) -> MetricPoint:
    origin = Origin({"service.instance.id": instance})
    attributes = {semconv.DB_CLIENT_CONNECTION_POOL_NAME: pool}
    return MetricPoint(metric, "", "", 0, attributes, origin=origin, **values)


def waits(*counts: int, **values: Any) -> MetricPoint:
    name = semconv.DB_CLIENT_CONNECTION_WAIT_TIME
    return point(name, count=sum(counts), bounds=BOUNDS, bucket_counts=counts, **values)


def leak(pool: str = "office") -> Finding:
    attributes = {
        semconv.DB_CLIENT_CONNECTION_POOL_NAME: pool,
        semconv.CODE_FILE_PATH: "/shop/views.py",
        semconv.CODE_LINE_NUMBER: 12,
    }
    return Finding("connection_leak", attributes, "POST /stocktake")


def made(*received: MetricPoint, findings: tuple[Finding, ...] = ()) -> Pool:
    [pool] = pools(received, findings)
    return pool


def test_the_peak_is_the_highest_value_and_health_the_last() -> None:
    """Utilisation comes and goes between two collections: the demo shows the highest that it was sent."""
    utilization = [point(semconv.METRIC_POOL_UTILIZATION, value=value) for value in (0.2, 1.0, 0.2)]
    health = [point(semconv.METRIC_POOL_HEALTH, value=value) for value in (1.0, 0.3, 0.7)]
    pool = made(*utilization, *health, point(semconv.DB_CLIENT_CONNECTION_MAX, value=6))
    assert (pool.peak, pool.health, pool.maximum) == (1.0, 0.7, 6)


def test_cumulative_series_count_once_for_each_process() -> None:
    """Of one process the last value counts; those of several processes add up."""
    timeouts = [
        point(semconv.DB_CLIENT_CONNECTION_TIMEOUTS, instance=instance, value=value)
        for instance, value in (("a", 1), ("b", 5), ("a", 2))
    ]
    pool = made(*timeouts, waits(4, 0, 0, 0, 0), waits(8, 0, 0, 0, 0), waits(2, 0, 0, 0, 0, instance="b"))
    assert (pool.timeouts, pool.checkouts) == (7, 10)


def test_leaks_belong_to_the_pool_that_they_name() -> None:
    """A leak stands under its own pool; the least healthy pool comes first."""
    received = [
        point(semconv.METRIC_POOL_HEALTH, name, value=health) for name, health in (("shop", 1.0), ("office", 0.5))
    ]
    saturation = Finding("pool_saturation", {semconv.DB_CLIENT_CONNECTION_POOL_NAME: "shop"})
    found = pools(received, [leak(), saturation])
    assert [(pool.name, pool.leaks) for pool in found] == [("office", (leak(),)), ("shop", ())]


def test_what_was_not_received_is_none_and_other_metrics_are_no_pools() -> None:
    """A pool without a bound has no utilisation; a metric without a pool's name makes no pool."""
    pool = made(point(semconv.DB_CLIENT_CONNECTION_COUNT, value=1), MetricPoint("process.cpu.time", "s", "sum", 0, {}))
    assert (pool.peak, pool.maximum, pool.wait_p95, pool.health) == (None, None, None, None)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((10, 0, 0, 0, 0), 0.5, 0.0005),
        ((10, 0, 0, 0, 0), 1.0, 0.001),
        ((0, 0, 10, 0, 0), 0.5, 0.055),
        ((95, 0, 0, 5, 0), 0.95, 0.001),
        ((90, 0, 0, 10, 0), 0.95, 0.55),
        ((1, 0, 0, 0, 99), 0.95, 1.0),
        ((0, 0, 0, 0, 0), 0.95, None),
    ],
)
def test_a_quantile_lies_in_its_bucket(counts: tuple[int, ...], share: float, value: float | None) -> None:
    """As `histogram_quantile` in Prometheus: spread evenly over a bucket, at most the last boundary."""
    assert quantile([waits(*counts)], share) == (None if value is None else pytest.approx(value))


def test_the_histograms_of_processes_make_one_quantile() -> None:
    """The quantile is that of all measurements, not of one process."""
    assert quantile([waits(95, 0, 0, 0, 0), waits(0, 0, 0, 5, 0)], 0.96) == pytest.approx(0.28)
    assert quantile([], 0.95) is None


def text_of(*found: Pool, width: int = 80, encoding: str = "utf-8") -> str:
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    Renderer(Console(file=output, width=width, highlight=False, emoji=False)).print(Report((), (), {}, found))
    output.seek(0)
    return output.read()


OFFICE = Pool("office", 1.0, 6, 15, 0.5, 1, (leak(),), 0.69)
SHOP = Pool("shop", 0.07, 15, 90, None, 0, (), 1.0)


def test_text_has_a_line_for_each_pool_and_its_leaks() -> None:
    """Bar and number of the peak, maximum, waits, timeouts, leaks, health and name; each leak with route and line."""
    lines = [" ".join(line.split()) for line in text_of(OFFICE, SHOP).splitlines()]
    assert "Connection pools: 2, leaks: 1, timeouts: 1" in lines
    assert "██████████ 100% 6 500.0 ms 1 1 0.69 office" in lines
    assert "leak: POST /stocktake /shop/views.py:12" in lines
    assert "█ 7% 15 - 0 0 1.00 shop" in lines


@pytest.mark.parametrize("width", [80, 120])
def test_text_keeps_to_the_width_and_to_ascii(width: int) -> None:
    """A long name folds, uncut; an output that knows ASCII only gets ASCII."""
    name = f"db.example.com:5432/{'a' * 100}"
    text = text_of(Pool(name, None, None, 0, None, 0, (), None), width=width, encoding="ascii")
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert text.isascii()
    assert "a" * 100 in "".join(text.split())


def test_a_report_without_pools_says_nothing_of_them() -> None:
    """Where no metric of a pool came there is no empty table."""
    assert "Connection pools" not in text_of()
