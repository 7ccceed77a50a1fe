"""The demo's server process, walk and relay, with small stand-ins for the bookshop and the Collector."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

import pytest

from querywatch import cli, settings
from querywatch.demo import DemoError, command, server, walk
from querywatch.demo.receiver import Receiver
from querywatch.demo.relay import Relay
from querywatch.demo.server import Server, environment

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[-1]))); print('up'); "


@pytest.fixture
def run_instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Program]:
    """Start a Python program instead of the wrapped bookshop."""
    monkeypatch.setattr(server, "_wrapper", Program.wrapper)
    return Program


class Program:
    """The program that stands in for the bookshop; the port is its last argument."""

    code = ""

    @classmethod
    def wrapper(cls) -> list[str]:
        return [sys.executable, "-u", "-c", cls.code]

    @classmethod
    def server(cls, code: str, folder: Path) -> Server:
        cls.code = code
        return Server(folder, dict(os.environ), folder / "output.log")


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def refuses_soon(port: int) -> bool:
    """A killed orphan lets go of its socket a moment after the signal."""
    deadline = time.monotonic() + 10
    while not refuses(port) and time.monotonic() < deadline:
        time.sleep(0.01)
    return refuses(port)


def test_the_server_is_stopped_in_order(run_instead: type[Program], tmp_path: Path) -> None:
    """A server gets SIGINT first, so that it can flush, and is gone afterwards."""
    code = LISTEN + "\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('flushed')"
    with run_instead.server(code, tmp_path) as running:
        pass
    assert running.last_lines() == "up\nflushed"
    assert refuses(running.port)


def test_children_of_a_stubborn_server_are_killed(
    run_instead: type[Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ignores the polite signals is killed, and so is a child that serves on the same socket."""
    monkeypatch.setattr(server, "_WAYS_TO_STOP", ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)))
    deaf = "import os, signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)]; "
    with run_instead.server(deaf + LISTEN + "os.fork(); time.sleep(60)", tmp_path) as running:
        pass
    assert refuses_soon(running.port)


def test_a_server_that_fails_is_explained(run_instead: type[Program], tmp_path: Path) -> None:
    """When the server ends instead of listening, the error has its status and its last output."""
    with (
        pytest.raises(DemoError, match=r"status 3 instead of serving:\nno such database"),
        run_instead.server("import sys; print('no such database'); sys.exit(3)", tmp_path),
    ):
        pytest.fail("it did not start")


def test_a_server_that_never_listens_is_given_up(
    run_instead: type[Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the limit the demo says that the server does not answer, and ends it."""
    monkeypatch.setattr(server, "START_LIMIT", 0.2)
    running = run_instead.server("import time; time.sleep(60)", tmp_path)
    with pytest.raises(DemoError, match="does not answer"), running:
        pytest.fail("it did not start")
    assert running._process.poll() is not None


def test_the_applications_environment() -> None:
    """The application exports to the receiver; the user's OpenTelemetry and Flask settings cannot get in the way."""
    base = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_SAMPLER": "always_off", "FLASK_DEBUG": "1", "HOME": "/home/me"}
    made = environment(base, "http://127.0.0.1:4999", "sqlite:///x.db")
    assert made["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4999"
    assert made["DATABASE_URL"] == "sqlite:///x.db"
    assert made["HOME"] == "/home/me"
    assert not {"OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "FLASK_DEBUG"} & made.keys()


def test_thresholds_of_the_user_win() -> None:
    """The demo's thresholds hold unless the user's environment sets them, under either name."""
    limits = settings.load(environment({}, "", ""))
    assert (limits.slow_query_threshold, limits.critical_query_threshold, limits.slow_request_threshold) == (
        0.1,
        0.4,
        0.8,
    )
    limits = settings.load(
        environment({"SLOW_QUERY_THRESHOLD": "0.3", "QUERYWATCH_SLOW_REQUEST_THRESHOLD": "7"}, "", "")
    )
    assert (limits.slow_query_threshold, limits.critical_query_threshold, limits.slow_request_threshold) == (
        0.3,
        0.4,
        7,
    )


class Shop(BaseHTTPRequestHandler):
    """Answers GET with 200, and 500 below /broken."""

    def do_GET(self) -> None:
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def shop_url() -> object:
    with HTTPServer(("127.0.0.1", 0), Shop) as shop:
        Thread(target=shop.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{shop.server_port}"
        shop.shutdown()


def test_the_walk_visits_every_stop(shop_url: str) -> None:
    """Each stop is requested once; what fails has its status or reason and does not end the walk."""
    tour = walk.load_tour(server.examples_folder())
    stop: Any = tour[0]
    broken = dataclasses.replace(stop, path="/broken")
    first, second = walk.walk([broken, stop], shop_url)
    assert (first.status, first.worked, first.error) == (500, False, "status 500")
    assert (second.status, second.worked, second.visit) == (200, True, stop)
    assert first.end <= second.start <= second.end
    (unreachable,) = walk.walk([stop], "http://127.0.0.1:1")
    assert not unreachable.worked
    assert "refused" in unreachable.error


def test_the_relay_hands_bodies_on() -> None:
    """A relay delivers to the same path of another receiver and has no failure to report."""
    with Receiver() as collector:
        relay = Relay(collector.endpoint + "/")
        relay.check()
        relay.send("/v1/logs", b"")
        assert relay.failure == ""


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://localhost", "http://", ""])
def test_a_relay_needs_an_http_url(url: str) -> None:
    """What is no HTTP URL is refused with an example of one."""
    with pytest.raises(DemoError, match="http://localhost:4318"):
        Relay(url)


def test_a_relay_that_cannot_send_says_why(shop_url: str) -> None:
    """The first failure is kept in words: a status, or the reason why nothing answers."""
    relay = Relay(shop_url + "/broken?")
    relay.send("/v1/logs", b"")
    relay = Relay("http://127.0.0.1:1")
    relay.send("/v1/logs", b"")
    relay.send("/v1/metrics", b"")
    assert relay.failure.startswith("cannot send to http://127.0.0.1:1/v1/logs:")
    with pytest.raises(DemoError, match="refused"):
        relay.check()


def test_an_unreachable_collector_ends_the_demo_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """`--otlp` with a Collector that does not answer: one clear line, exit status 1, and no server was started."""
    assert cli.main(["demo", "--otlp", "http://127.0.0.1:1"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("querywatch demo: cannot send to http://127.0.0.1:1/v1/traces:")
    assert output.err.count("\n") == 1


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the extra `demo` the message tells the pip command."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert cli.main(["demo"]) == 1
    assert "pip install 'querywatch[demo]'" in capsys.readouterr().err


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`querywatch` alone explains itself and succeeds; `--version` names the version."""
    assert cli.main([]) == 0
    assert "demo" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("querywatch ")


def test_an_interrupt_stops_the_server(
    run_instead: type[Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C during the walk stops the server and gives exit status 130, without a word."""
    run_instead.code = LISTEN + "time.sleep(60)"
    ports: list[int] = []

    def interrupted(_tour: object, url: str) -> NoReturn:
        ports.append(int(url.rpartition(":")[2]))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "walk", interrupted)
    assert cli.main(["demo"]) == 130
    assert [refuses(port) for port in ports] == [True]
    assert capsys.readouterr() == ("", "")


def test_missing_telemetry_is_an_error(
    run_instead: type[Program], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When nothing comes through OTLP the demo says so, with the server's last lines, instead of an empty table."""
    run_instead.code = "print('exporter: on strike'); " + LISTEN + "time.sleep(60)"
    monkeypatch.setattr(command, "walk", lambda _tour, _url: iter(()))
    assert cli.main(["demo"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("querywatch demo: no telemetry came from the bookshop")
    assert "on strike" in output.err
