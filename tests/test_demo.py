"""`querywatch demo` end to end: the real wrapper, a real server process, and what arrived through OTLP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import servers
from querywatch import semconv
from querywatch.demo.receiver import Receiver

pytestmark = pytest.mark.slow

CONTRACT = {
    semconv.FINDING_ID,
    semconv.FINDING_KEY,
    semconv.SEVERITY,
    semconv.FINDING_COUNT,
    semconv.FINDING_DISTINCT,
    semconv.FINDING_DURATION,
    semconv.FINDING_WASTED,
    semconv.ADVICE,
}


def demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "querywatch.cli", "demo", *arguments]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    """A receiver that stands in for the user's Collector."""
    with Receiver() as collector:
        yield collector


@pytest.fixture(scope="module")
def result(collector: Receiver) -> dict[str, Any]:
    """What `querywatch demo --json --otlp …` printed."""
    finished = demo("--json", "--otlp", collector.endpoint)
    assert (finished.returncode, finished.stderr) == (0, "")
    printed: dict[str, Any] = json.loads(finished.stdout)
    return printed


def test_every_mistake_is_found_on_its_route(result: dict[str, Any]) -> None:
    """Each stop of the tour shows the kinds of finding it was built for."""
    missed = {
        visit["path"]: visit["expects"] for visit in result["visits"] if not {*visit["expects"]} <= {*visit["findings"]}
    }
    assert missed == {}


def test_no_fixed_twin_has_a_finding(result: dict[str, Any]) -> None:
    """No false alarm: a stop that expects nothing, fixed twins among them, repeats no query and sends few."""
    # What takes long is true of the machine as well: a busy one may be slow on any route, and is then reported rightly.
    alarms = {
        visit["path"]: [kind for kind in visit["findings"] if not kind.startswith("slow_")]
        for visit in result["visits"]
        if not visit["expects"]
    }
    assert {path: kinds for path, kinds in alarms.items() if kinds} == {}


def test_the_fixed_twin_of_a_slow_route_is_faster(result: dict[str, Any]) -> None:
    """What is slow by its own fault is so on every machine: its twin, on the same one, takes a fraction of the time."""
    took = {visit["path"]: visit["duration"] for visit in result["visits"]}
    slow = [visit for visit in result["visits"] if any(kind.startswith("slow_") for kind in visit["expects"])]
    assert slow
    assert [visit["path"] for visit in slow if took[visit["twin"]] >= visit["duration"]] == []


def test_every_visit_was_answered_and_traced(result: dict[str, Any]) -> None:
    """Every stop answered with success, left a trace, and counted its queries."""
    assert [visit["path"] for visit in result["visits"] if visit["status"] >= 400 or not visit["trace_id"]] == []
    assert all(visit["queries"] > 0 for visit in result["visits"])


def test_findings_keep_the_contract(result: dict[str, Any]) -> None:
    """Each finding has every attribute of the contract, with route and trace; repeated queries have their line."""
    assert result["findings"]
    for finding in result["findings"]:
        assert finding.keys() >= CONTRACT, finding
        assert finding["route"], finding
        assert finding["trace_id"], finding
    repeated = [finding for finding in result["findings"] if finding["kind"] == "n_plus_one"]
    assert all("/bookshop/" in finding[semconv.CODE_FILE_PATH] for finding in repeated)


def test_the_pools_are_told_by_their_telemetry(result: dict[str, Any]) -> None:
    """The office's pool was full, timed out once and lost one connection, with the line; the shop's has no trouble."""
    office, shop = result["pools"]
    assert (office["name"], office["maximum"], office["peak"], office["timeouts"]) == ("office", 6, 1.0, 1)
    assert [leak["route"] for leak in office["leaks"]] == ["POST /api/office/stocktake"]
    assert office["leaks"][0][semconv.CODE_FILE_PATH].endswith("/bookshop/views/office.py")
    # One checkout of fifteen waited for a second before it timed out.
    assert (office["checkouts"], office["wait_p95"] > 0.5) == (15, True)
    assert (shop["name"], shop["timeouts"], shop["leaks"]) == ("shop", 0, [])
    assert 0 < office["health"] < shop["health"] <= 1


def test_a_collector_gets_the_same(result: dict[str, Any], collector: Receiver) -> None:
    """With `--otlp` the Collector receives every span, log record and metric point that the report counts."""
    arrived = {
        "spans": len(collector.spans),
        "log_records": len(collector.logs),
        "metric_points": len(collector.metrics),
    }
    assert arrived == result["received"]
    assert {span.origin.resource["service.name"] for span in collector.spans} == {"bookshop"}


def test_the_report_on_a_real_database(postgresql_url: str) -> None:
    """Through a pipe, on PostgreSQL: table, N+1 waterfall and twins as plain text, and exit status 0."""
    finished = demo("--database-url", servers.with_driver(postgresql_url, "psycopg"), COLUMNS="120")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "\x1b" not in finished.stdout
    for heading in ("findings in", "The worst trace: ", "Fixed twins: ", "N+1 ", "Connection pools: 2, leaks: 1, "):
        assert heading in finished.stdout
