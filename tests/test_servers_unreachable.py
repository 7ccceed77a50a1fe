"""No Collector answers: the application runs, says so once, and ends in good time."""

import sys
import time
from pathlib import Path

import pytest

from e2e import models
from e2e.program import Program, Story, environment, free_port, script, wrapper
from querywatch.demo.receiver import Receiver

pytestmark = pytest.mark.slow


def gone() -> Receiver:
    """A receiver that listens no more."""
    with Receiver() as receiver:
        return receiver


def live(directory: Path, command: list[str], port: int, seconds: float, **variables: str) -> Story:
    """Ask a server for `seconds`, then end it; every exporter tries several times meanwhile."""
    url = f"sqlite:///{directory}/shop.db"
    models.fill(url)
    story = Story(gone())
    variables = environment(
        story.receiver.endpoint,
        DATABASE_URL=url,
        OTEL_BLRP_SCHEDULE_DELAY="200",
        OTEL_BSP_SCHEDULE_DELAY="200",
        OTEL_METRIC_EXPORT_INTERVAL="500",
        **variables,
    )
    with Program([*wrapper(), *command], variables, directory / "output", port) as program:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            story.answers["last"] = program.get("/authors")
            time.sleep(0.1)
        before = time.monotonic()
        story.status = program.stop()
        story.seconds = time.monotonic() - before
        story.output = program.output
    return story


@pytest.fixture(scope="module", params=["http/protobuf", "grpc"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("unreachable")
    port = free_port()
    command = [script("flask"), "--app", "e2e.shop", "run", "--port", str(port)]
    return live(directory, command, port, 4.0, OTEL_EXPORTER_OTLP_PROTOCOL=request.param)


def test_the_application_answers_as_before(story: Story) -> None:
    answer = story.answers["last"]
    assert (answer.status, answer.body.count(b",")) == (200, 2 * models.AUTHORS - 1)


def test_one_warning(story: Story) -> None:
    """Spans, log records and metrics were tried and tried again: one warning says so."""
    assert story.output.count("telemetry can't be sent") == 1
    assert story.output.count("Transient error") + story.output.count("Failed to export") == 1


def test_the_end_is_not_put_off(story: Story) -> None:
    """SIGTERM ends the process within seconds."""
    assert story.seconds < 15


def test_gunicorn_ends_in_good_time(tmp_path: Path) -> None:
    """Workers and master end in order, each within the limit: the SDK alone takes three quarters of a minute."""
    port = free_port()
    command = [
        script("gunicorn"),
        "e2e.shop:app",
        "--workers",
        "2",
        "--no-control-socket",
        "--bind",
        f"127.0.0.1:{port}",
    ]
    story = live(tmp_path, command, port, 1.0)
    assert story.status == 0
    assert story.seconds < 25


def test_a_script_ends_with_its_own_status(tmp_path: Path) -> None:
    """The exit status of a program that ends by itself is its own."""
    variables = environment(gone().endpoint)
    with Program([*wrapper(), sys.executable, "-c", "raise SystemExit(7)"], variables, tmp_path / "output") as program:
        assert program.wait() == 7
