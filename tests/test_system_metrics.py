"""Metrics of process and host, over OTLP from real processes under the wrapper."""

import json
import sys
from pathlib import Path

import pytest

from e2e import forked, models
from e2e.program import TESTS, Program, environment, free_port, last_points, script, wrapper
from querywatch.demo.receiver import Receiver

pytestmark = pytest.mark.slow

#: Each metric that a dashboard uses, with the states that it tells apart.
METRICS: dict[str, set[str]] = {
    "process.cpu.time": {"user", "system"},
    "process.memory.usage": set(),
    "process.thread.count": set(),
    "cpython.gc.collections": {"0", "1", "2"},
    "system.cpu.time": {"user", "system", "iowait", "idle"},
    "system.memory.utilization": {"used"},
}
STATES = ("type", "state", "generation")


def measured(receiver: Receiver) -> dict[str, set[str]]:
    """What arrived of process, interpreter and host: names of metrics, and their states."""
    found: dict[str, set[str]] = {}
    for point in receiver.metrics:
        if point.name.startswith(("process.", "cpython.", "system.")):
            states = {str(point.attributes[name]) for name in STATES if name in point.attributes}
            found.setdefault(point.name, set()).update(states)
    return found


def run(program: str, output: Path, **variables: str) -> tuple[Receiver, str]:
    """Run a script under the wrapper to its end; return what it sent and printed."""
    with Receiver() as receiver:
        command = [*wrapper(), sys.executable, str(TESTS / "e2e" / program)]
        with Program(command, environment(receiver.endpoint, **variables), output) as running:
            assert running.wait() == 0, running.output
            return receiver, running.output


def test_a_server_sends_what_a_dashboard_uses_and_nothing_else(tmp_path: Path) -> None:
    """CPU, memory and threads of the process, garbage collection, CPU and memory of the host: by name and state."""
    url = f"sqlite:///{tmp_path}/shop.db"
    models.fill(url)
    port = free_port()
    with Receiver() as receiver:
        command = [*wrapper(), script("flask"), "--app", "e2e.shop", "run", "--port", str(port)]
        with Program(command, environment(receiver.endpoint, DATABASE_URL=url), tmp_path / "output", port) as program:
            assert program.get("/authors").status == 200
            program.stop()
    assert measured(receiver) == METRICS
    [memory] = last_points(receiver, "process.memory.usage")
    [share] = last_points(receiver, "system.memory.utilization")
    assert (memory.unit, share.unit) == ("By", "1")
    assert memory.value is not None
    assert memory.value > 10 << 20
    assert 0 < (share.value or 0) < 1


@pytest.mark.parametrize("variable", ["QUERYWATCH_SYSTEM_METRICS", "QUERYWATCH_ENABLED"])
def test_off_means_absent(tmp_path: Path, variable: str) -> None:
    """Switched off nothing is measured, and the instrumentation is not even imported."""
    receiver, output = run("registry.py", tmp_path / "output", DATABASE_URL="sqlite://", **{variable: "false"})
    assert measured(receiver) == {}
    assert json.loads(output)["system_metrics"] is False


def test_opentelemetrys_own_variable_excludes(tmp_path: Path) -> None:
    """What `OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS` names is left out of ours as well."""
    excluded = "system.*, cpython.gc.collections"
    receiver, output = run("registry.py", tmp_path / "output", OTEL_PYTHON_SYSTEM_METRICS_EXCLUDED_METRICS=excluded)
    assert {*measured(receiver)} == {name for name in METRICS if name.startswith("process.")}
    assert json.loads(output)["system_metrics"] is True


def test_a_forked_process_measures_itself(tmp_path: Path) -> None:
    """A child's memory is its own, under its own `service.instance.id`, and not that of the process it came from."""
    receiver, _ = run("forked.py", tmp_path / "output")
    points = last_points(receiver, "process.memory.usage")
    assert len({point.origin.resource["service.instance.id"] for point in points}) == len(points) == 2
    small, large = sorted(point.value or 0 for point in points)
    # Half of it: a forked process begins with fewer pages of its own than its parent has.
    assert large - small > forked.MEBIBYTES << 19
