"""What is chosen at start-up: distro, configurator, samplers and switches; scripts and consumers."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from e2e import models
from e2e.program import TESTS, Program, Story, environment, free_port, last_points, script, told, wrapper
from querywatch.demo.receiver import Receiver

pytestmark = pytest.mark.slow

STOCK = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"}
#: What the stock distro leaves to the user.
SEMCONV = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http,database", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('data')}/shop.db"
    models.fill(url)
    return url


@pytest.fixture(scope="module")
def stock_distro(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory that has `opentelemetry-distro` and nothing else."""
    directory = str(tmp_path_factory.mktemp("stock"))
    package = f"opentelemetry-distro=={version('opentelemetry-instrumentation')}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", directory, package]
    subprocess.run(command, check=True)
    return directory


def served(url: str, output: Path, **variables: str) -> Story:
    """The life of `flask run`: one N+1, one request that the sampler of the caller has dropped, SIGTERM."""
    port = free_port()
    command = [*wrapper(), script("flask"), "--app", "e2e.shop", "run", "--port", str(port)]
    # Not every variant flushes at SIGTERM.
    often = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "300"}
    with Receiver() as receiver:
        story = Story(receiver)
        environ = environment(receiver.endpoint, DATABASE_URL=url, **{**often, **variables})
        with Program(command, environ, output, port) as program:
            story.answers["dropped"] = program.get("/authors", sampled=False)
            story.answers["n+1"] = program.get("/authors")
            receiver.wait(lambda got: last_points(got, "http.server.request.duration"))
            receiver.wait(lambda got: told(got, story.answers["n+1"].trace_id).spans)
            story.status = program.stop()
            story.output = program.output
        return story


def run(url: str, program: str, output: Path, **variables: str) -> tuple[Story, str]:
    """Run a script to its end under the wrapper."""
    with Receiver() as receiver:
        story = Story(receiver)
        command = [*wrapper(), sys.executable, str(TESTS / "e2e" / program)]
        with Program(command, environment(receiver.endpoint, DATABASE_URL=url, **variables), output) as running:
            story.status = running.wait()
            story.output = running.output
        return story, story.output


@pytest.fixture(scope="module")
def stock(database_url: str, stock_distro: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    path = f"{TESTS}:{stock_distro}"
    output = tmp_path_factory.mktemp("stock-run") / "output"
    return served(database_url, output, PYTHONPATH=path, **STOCK, **SEMCONV)


def test_findings_arrive_under_the_stock_distro(stock: Story) -> None:
    """With OpenTelemetry's own distro and configurator chosen, the instrumentor alone brings the finding."""
    got = stock.told("n+1")
    assert got.request.attributes["querywatch.findings"] == ["n_plus_one"]
    assert [event.name for event in got.request.events] == ["querywatch.n_plus_one"]
    assert got.kinds == ["n_plus_one"]
    assert "Failed to auto initialize" not in stock.output


def test_dropped_requests_count_under_the_stock_distro(stock: Story) -> None:
    """A request enters through Flask, so its finding needs no recorded span: log record and counter have both."""
    assert stock.told("dropped").kinds == ["n_plus_one"]
    assert stock.told("dropped").spans == []
    assert [point.value for point in last_points(stock.receiver, "querywatch.findings")] == [2]


def test_there_are_no_views_under_the_stock_distro(stock: Story, database_url: str, tmp_path: Path) -> None:
    """Views are the configurator's: a threshold is a bucket boundary of the request duration under ours only."""
    with_ours = served(database_url, tmp_path / "output", QUERYWATCH_SLOW_REQUEST_THRESHOLD="1.25")
    [ours] = last_points(with_ours.receiver, "http.server.request.duration")
    [theirs] = last_points(stock.receiver, "http.server.request.duration")
    assert (1.25 in ours.bounds, 1.25 in theirs.bounds) == (True, False)


def test_metrics_of_process_and_host_stay_as_the_stock_distro_has_them(stock: Story) -> None:
    """What to measure of process and host is the distro's choice: the stock one loads that instrumentation whole."""
    names = {point.name for point in stock.receiver.metrics}
    assert {"process.memory.usage", "process.memory.virtual", "system.swap.usage"} <= names


@pytest.fixture(
    scope="module", params=[{"QUERYWATCH_ENABLED": "false"}, {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "querywatch"}]
)
def switched_off(request: pytest.FixtureRequest, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return served(database_url, tmp_path_factory.mktemp("off") / "output", **request.param)


def test_switched_off_leaves_plain_opentelemetry(switched_off: Story) -> None:
    """Request and database spans arrive as contrib makes them: nothing of ours on any span, log record or metric."""
    got = switched_off.told("n+1")
    assert len(got.queries) == models.AUTHORS + 1
    assert {query.parent_id for query in got.queries} == {got.request.span_id}
    names = {name for span in switched_off.receiver.spans for name in span.attributes}
    assert [name for name in names if name.startswith(("querywatch", "code."))] == []
    assert "db.query.summary" not in names
    assert [event for span in got.spans for event in span.events] == []
    assert switched_off.receiver.logs == ()
    assert [point.name for point in switched_off.receiver.metrics if point.name.startswith("querywatch")] == []


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({}, True),
        ({"QUERYWATCH_ENABLED": "false"}, False),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "querywatch"}, False),
    ],
)
def test_off_means_absent(database_url: str, tmp_path: Path, variables: dict[str, str], on: bool) -> None:
    """Switched off there is no listener on SQLAlchemy's classes and no hook is imported; switched on there are."""
    _, output = run(database_url, "registry.py", tmp_path / "output", **variables)
    found: dict[str, Any] = json.loads(output)
    assert [bool(count) for count in found["listeners"].values()] == [on] * 5
    assert bool(found["hooks"]) == on


@pytest.fixture(scope="module", params=["always_on", "always_off", "traceidratio", "parentbased_always_on"])
def job(request: pytest.FixtureRequest, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A script under each sampler; the ratio is 0."""
    output = tmp_path_factory.mktemp("job") / "output"
    variables = {"OTEL_TRACES_SAMPLER": request.param, "OTEL_TRACES_SAMPLER_ARG": "0.0"}
    story, _ = run(database_url, "script.py", output, **variables)
    story.name = request.param
    return story


def test_a_span_of_ones_own_is_a_request(job: Story) -> None:
    """Neither Flask nor a server: the local root span is the request, sampled or not."""
    assert job.status == 0, job.output
    routes = [log.attributes.get("http.route") for log in job.receiver.logs]
    assert sorted(str(route) for route in routes) == ["message", "message", "nightly job"]
    [point] = [
        p for p in last_points(job.receiver, "querywatch.findings") if p.attributes["http.route"] == "nightly job"
    ]
    assert point.value == 1


def test_consumers_count_sampled_or_not(job: Story) -> None:
    """A message's span is a request; one that the sampler dropped is in log and counter all the same."""
    points = last_points(job.receiver, "querywatch.findings", http_route="message")
    assert [point.value for point in points] == [2]
    traces = {log.trace_id for log in job.receiver.logs if log.attributes.get("http.route") == "message"}
    assert traces == {f"{0xA:032x}", f"{0xB:032x}"}


def test_only_sampled_spans_are_exported(job: Story) -> None:
    """What keeps dropped roots visible to QueryWatch does not export them."""
    roots = {span.name for span in job.receiver.spans if span.kind in ("INTERNAL", "CONSUMER")}
    exported = {"always_on": {"nightly job", "message"}, "parentbased_always_on": {"nightly job", "message"}}
    assert roots == exported.get(job.name, set())
    messages = [span for span in job.receiver.spans if span.name == "message"]
    assert len(messages) == {"always_on": 2, "parentbased_always_on": 1}.get(job.name, 0)


def test_queries_outside_of_a_span_are_tagged_only(job: Story) -> None:
    """A query without a local parent is tagged, and opens no request."""
    loose = [s for s in job.receiver.spans if s.kind == "CLIENT" and not s.parent_id and s.name != "connect"]
    expected = models.AUTHORS + 1 if job.name in ("always_on", "parentbased_always_on") else 0
    assert len(loose) == expected
    assert all("querywatch.query.fingerprint" in span.attributes for span in loose)
    assert not any("querywatch.n_plus_one" in span.attributes for span in loose)
