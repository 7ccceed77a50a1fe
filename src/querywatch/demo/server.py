"""The bookshop under `opentelemetry-instrument`, in a process (and process group) of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

import querywatch
from querywatch.demo import DemoError

SERVICE_NAME: Final = "bookshop"
START_LIMIT: Final = 120.0
"""Seconds the application may take to fill its database and listen."""

_THRESHOLDS: Final = {
    ("QUERYWATCH_SLOW_QUERY_THRESHOLD", "SLOW_QUERY_THRESHOLD"): "0.1",
    ("QUERYWATCH_CRITICAL_QUERY_THRESHOLD",): "0.4",
    ("QUERYWATCH_SLOW_REQUEST_THRESHOLD", "SLOW_REQUEST_THRESHOLD"): "0.8",
}
# Signal, seconds to wait for its effect. The first one lets the exporters flush.
_WAYS_TO_STOP: Final = ((signal.SIGINT, 15.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


def examples_folder() -> Path:
    """Return the folder that holds the package `bookshop`: the clone's, else the one inside the wheel."""
    package = Path(querywatch.__file__).resolve().parent
    for folder in (package.parents[1] / "examples", package / "examples"):
        if (folder / "bookshop" / "__init__.py").is_file():
            return folder
    raise DemoError("this installation of querywatch has no bookshop; install a wheel or work from a clone")


def environment(base: Mapping[str, str], endpoint: str, database_url: str) -> dict[str, str]:
    """Return the application's environment: that of the user, telling OpenTelemetry and Flask what the demo needs."""
    kept = {name: value for name, value in base.items() if not name.startswith(("OTEL_", "FLASK_"))}
    for names, value in _THRESHOLDS.items():
        if not any(base.get(name) for name in names):
            kept[names[0]] = value
    no_proxy = [kept.get("no_proxy") or kept.get("NO_PROXY"), "127.0.0.1"]
    return kept | {
        "BOOKSHOP_POOL_TROUBLE": "true",
        "DATABASE_URL": database_url,
        "NO_PROXY": (direct := ",".join(filter(None, no_proxy))),
        "no_proxy": direct,
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        # Values of pools are read when metrics are collected: often enough to see one that is full for a second.
        "OTEL_METRIC_EXPORT_INTERVAL": "400",
        # Where several are installed the first one in undefined order would win.
        "OTEL_PYTHON_CONFIGURATOR": "querywatch",
        "OTEL_PYTHON_DISTRO": "querywatch",
        "OTEL_RESOURCE_ATTRIBUTES": base.get("OTEL_RESOURCE_ATTRIBUTES", ""),
        "OTEL_SERVICE_NAME": SERVICE_NAME,
        "PYTHONUNBUFFERED": "1",
        "QUERYWATCH_ENABLED": "true",
    }


class Server:
    """The bookshop's process: started, and waited for, while it is entered as a context."""

    def __init__(self, folder: Path, environment: Mapping[str, str], output: Path) -> None:
        """Prepare to run in `folder`; what the server prints goes to the file `output`."""
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._environment = environment
        self._output = output

    def __enter__(self) -> Self:
        command = [*_wrapper(), sys.executable, "-m", "flask", "--app", "bookshop", "run", "--port", str(self.port)]
        with self._output.open("wb") as output, _interruptible_children():
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal reaches the demo only, which stops the server in order.
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process in order, and by force when it takes too long or the user is impatient."""
        try:
            for number, patience in _WAYS_TO_STOP:
                if self._ended_by(number, patience):
                    return
        except KeyboardInterrupt:
            self._ended_by(signal.SIGKILL, 5.0)
            raise

    def last_lines(self, count: int = 15) -> str:
        """Return the last lines that the server printed."""
        return "\n".join(self._output.read_text(errors="replace").splitlines()[-count:])

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if (status := self._process.poll()) is not None:
                raise DemoError(f"the bookshop ended with status {status} instead of serving:\n{self.last_lines()}")
            if _listens(self.port):
                return
            time.sleep(0.05)
        raise DemoError(f"the bookshop does not answer after {START_LIMIT:.0f} seconds:\n{self.last_lines()}")

    def _ended_by(self, number: signal.Signals, patience: float) -> bool:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True


def _wrapper() -> list[str]:
    """Return the command `opentelemetry-instrument` of this interpreter's environment."""
    name = "opentelemetry-instrument"
    script = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if script is None:
        raise DemoError(f"{name} is not installed: pip install 'querywatch[demo]'")
    return [sys.executable, script]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    # A bare connection, as a request would be telemetry.
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _interruptible_children() -> Iterator[None]:
    """Let a child react to SIGINT though the demo is a background job, which ignores it and hands that on."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, _ignored)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ignored(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: unlike SIG_IGN a handler is not inherited."""
