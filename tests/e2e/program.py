"""Programs under `opentelemetry-instrument`, in processes of their own, and what they were asked and sent."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from querywatch.demo.receiver import Receiver
from querywatch.demo.telemetry import LogRecord, MetricPoint, Span

TESTS = Path(__file__).parents[1]
START_LIMIT = 60.0
"""Seconds a server may take until it listens."""


def wrapper() -> list[str]:
    """The real wrapper of the environment that runs the tests."""
    script = shutil.which("opentelemetry-instrument", path=sysconfig.get_path("scripts"))
    assert script is not None, "opentelemetry-instrument is not installed beside this Python"
    return [sys.executable, script]


def script(name: str) -> str:
    """A console script of the environment that runs the tests."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    assert found is not None, f"{name} is not installed"
    return found


def environment(endpoint: str, **variables: str) -> dict[str, str]:
    """A user's environment: nothing of pytest in it, nothing set for OpenTelemetry but where the Collector is."""
    foreign = ("OTEL_", "QUERYWATCH_", "FLASK_", "PYTEST_", "COV_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ours = {
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "PYTHONPATH": str(TESTS),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    return {name: value for name, value in {**kept, **ours, **variables}.items() if value}


@dataclass(frozen=True)
class Answer:
    """What a client got, and the trace it asked with."""

    status: int
    headers: dict[str, str]
    body: bytes
    trace_id: str


class Program:
    """A program that runs while it is entered as a context; what it prints goes to a file."""

    def __init__(self, command: Iterable[str], variables: Mapping[str, str], output: Path, port: int = 0) -> None:
        self.port = port
        self._command = list(command)
        self._variables = variables
        self._output = output

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=TESTS,
                env=dict(self._variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if self.port:
                self._wait_until_it_listens()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._kill()

    @property
    def output(self) -> str:
        """What the program has printed so far."""
        return self._output.read_text(errors="replace")

    def get(self, path: str, method: str = "GET", sampled: bool = True, headers: Mapping[str, str] = {}) -> Answer:
        """Send one request as a client that has begun a trace of its own."""
        trace_id = uuid.uuid4().hex
        parent = {"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-{int(sampled):02}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers={**parent, **headers})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read(), trace_id)
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the program by a signal and return its exit status."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the program's end and return its exit status."""
        return self._process.wait(60)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            # The whole group: a server's workers outlive it when it was killed.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.output
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"does not listen after {START_LIMIT} s:\n{self.output}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Told:
    """What a receiver has of one trace."""

    spans: list[Span]
    logs: list[LogRecord]

    @property
    def request(self) -> Span:
        """The request's span: the server's."""
        [span] = [span for span in self.spans if span.kind == "SERVER"]
        return span

    @property
    def queries(self) -> list[Span]:
        """The spans of statements; contrib's `connect` span is no statement."""
        return [span for span in self.spans if span.kind == "CLIENT" and span.name != "connect"]

    @property
    def kinds(self) -> list[str]:
        """The kinds found, by the log records."""
        return sorted(log.event_name.removeprefix("querywatch.") for log in self.logs)


def told(receiver: Receiver, trace_id: str) -> Told:
    """Return what arrived of a trace."""
    return Told(
        [span for span in receiver.spans if span.trace_id == trace_id],
        [log for log in receiver.logs if log.trace_id == trace_id],
    )


def last_points(receiver: Receiver, name: str, **attributes: Any) -> list[MetricPoint]:
    """Return the newest point of each series of a metric; attributes are given with `_` for the dots."""
    wanted = {key.replace("_", "."): value for key, value in attributes.items()}
    points: dict[Any, MetricPoint] = {}
    for point in receiver.metrics:
        if point.name == name and wanted.items() <= point.attributes.items():
            instance = point.origin.resource.get("service.instance.id"), point.origin.resource.get("process.pid")
            points[instance, tuple(sorted(point.attributes.items()))] = point
    return list(points.values())


@dataclass
class Story:
    """A program's whole life: what it answered, what it sent and printed, and how it ended."""

    receiver: Receiver
    answers: dict[str, Answer] = field(default_factory=dict)
    output: str = ""
    status: int | None = None
    name: str = ""
    seconds: float = 0.0
    bodies: list[tuple[str, bytes]] = field(default_factory=list)

    def told(self, name: str) -> Told:
        """Return what arrived of the request called `name`."""
        return told(self.receiver, self.answers[name].trace_id)
