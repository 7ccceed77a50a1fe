"""Telemetry of forked processes arrives, whatever their parent's exporters were doing at the fork."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from e2e.program import TESTS, Program, environment, last_points, wrapper
from querywatch.demo.receiver import Receiver
from querywatch.demo.telemetry import decode_metrics

pytestmark = pytest.mark.slow

DELAY = 0.8
"""Seconds that a slow Collector takes to answer."""

ports: dict[str, set[int]] = defaultdict(set)
"""By `service.instance.id`: from which ports of this machine metrics came, one for each connection."""


class Slowly:
    """Delays the receiver's answers."""

    def send(self, path: str, body: bytes) -> None:
        if path == "/v1/metrics":
            time.sleep(DELAY)


class Collector(BaseHTTPRequestHandler):
    """Notes who has sent metrics on which connection, and keeps connections open."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/metrics":
            for point in decode_metrics(body):
                ports[point.origin.resource["service.instance.id"]].add(self.client_address[1])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(endpoint: str, output: Path, *arguments: str) -> None:
    command = [*wrapper(), sys.executable, str(TESTS / "e2e" / "forking.py"), *arguments]
    with Program(command, environment(endpoint), output) as program:
        assert (program.wait(), program.output) == (0, "")


def test_parent_and_child_share_no_connection(collector_url: str, tmp_path: Path) -> None:
    """The parent keeps a connection open; the child, which inherits it, sends on one of its own."""
    run(collector_url, tmp_path / "output")
    parent, child = ports.values()
    assert parent
    assert child
    assert parent & child == set()


def test_a_fork_amid_an_export_loses_nothing(tmp_path: Path) -> None:
    """The parent's exporter holds a lock and waits for an answer: the child sends what it has counted all the same."""
    with Receiver(relay=Slowly()) as receiver:
        run(receiver.endpoint, tmp_path / "output", str(DELAY / 2))
    points = last_points(receiver, "forks")
    assert sorted(point.value or 0 for point in points) == [1, 2]
    assert len({point.origin.resource["service.instance.id"] for point in points}) == 2
