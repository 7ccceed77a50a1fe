"""An OTLP/HTTP receiver for one process: binary protobuf on a free loopback port, kept in bounded memory.

with Receiver() as receiver:
    ...  # export to receiver.endpoint
    receiver.wait(lambda received: received.spans, timeout=5)
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Protocol, Self

from google.protobuf.message import DecodeError

from querywatch.demo.telemetry import LogRecord, MetricPoint, Span, decode_logs, decode_metrics, decode_spans

MAX_BODY = 32 * 1024 * 1024
"""The largest request body, in bytes, before and after decompression."""

_CONTENT_TYPE = "application/x-protobuf"


class Relay(Protocol):
    """Where received bodies go on to; it must not raise."""

    def send(self, path: str, body: bytes) -> None:
        """Send one decompressed body to the same path of another receiver."""


class Receiver:
    """Receives OTLP/HTTP while it is entered as a context; `capacity` items per signal are kept, the newest win."""

    def __init__(self, capacity: int = 100_000, relay: Relay | None = None) -> None:
        self.dropped = 0
        self.received_bytes = 0
        self._spans: deque[Span] = deque(maxlen=capacity)
        self._logs: deque[LogRecord] = deque(maxlen=capacity)
        self._metrics: deque[MetricPoint] = deque(maxlen=capacity)
        self._signals: dict[str, tuple[Callable[[bytes], list[Any]], deque[Any]]] = {
            "/v1/traces": (decode_spans, self._spans),
            "/v1/logs": (decode_logs, self._logs),
            "/v1/metrics": (decode_metrics, self._metrics),
        }
        self._relay = relay
        self._changed = Condition()
        self._server = _Server(self)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), name="otlp-receiver", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans received so far, in the order of their arrival."""
        with self._changed:
            return tuple(self._spans)

    @property
    def logs(self) -> tuple[LogRecord, ...]:
        """The log records received so far, in the order of their arrival."""
        with self._changed:
            return tuple(self._logs)

    @property
    def metrics(self) -> tuple[MetricPoint, ...]:
        """Every data point received so far, in the order of arrival: of a cumulative series the last one counts."""
        with self._changed:
            return tuple(self._metrics)

    def wait(self, predicate: Callable[[Receiver], object], timeout: float = 10.0) -> bool:
        """Wait until `predicate(receiver)` is true, for at most `timeout` seconds; return whether it was."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: predicate(self), timeout))

    def clear(self) -> None:
        """Forget what was received so far."""
        with self._changed:
            for _, items in self._signals.values():
                items.clear()
            self.dropped = self.received_bytes = 0

    def accepts(self, path: str) -> bool:
        """Whether an OTLP signal is received at `path`."""
        return path in self._signals

    def take(self, path: str, body: bytes) -> None:
        """Decode one export request and keep its items; raise `DecodeError` when it is none."""
        decode, items = self._signals[path]
        decoded = decode(body)
        if self._relay:
            self._relay.send(path, body)
        with self._changed:
            self.received_bytes += len(body)
            self.dropped += max(0, len(items) + len(decoded) - (items.maxlen or 0))
            items.extend(decoded)
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(("127.0.0.1", 0), _Handler)


class _RefusedError(Exception):
    """A request that is no OTLP export; its one argument is the status to answer with."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60
    # One write for head and body: two would wait for the peer's delayed acknowledgement.
    wbufsize = -1

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Answer every HTTP method; the base class looks for `do_<method>`."""
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self._handle

    def _handle(self) -> None:
        try:
            self._receive()
        except _RefusedError as error:
            # The body may be unread: the next request would be looked for in the middle of it.
            self.close_connection = True
            status: HTTPStatus = error.args[0]
            self._answer(status, "text/plain", status.phrase.encode())
        else:
            # No bytes are the encoding of a response message without fields: full success.
            self._answer(HTTPStatus.OK, _CONTENT_TYPE, b"")

    def _receive(self) -> None:
        if not self.server.receiver.accepts(self.path):
            raise _RefusedError(HTTPStatus.NOT_FOUND)
        if self.command != "POST":
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
        if self.headers.get_content_type() != _CONTENT_TYPE:
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        body = _decompressed(self._read(), self.headers.get("Content-Encoding", "identity"))
        try:
            self.server.receiver.take(self.path, body)
        except DecodeError:
            raise _RefusedError(HTTPStatus.BAD_REQUEST) from None

    def _read(self) -> bytes:
        length = self.headers.get("Content-Length")
        if length is None:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED)
        if not (length.isascii() and length.isdigit()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        if int(length) > MAX_BODY:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return self.rfile.read(int(length))

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "POST")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing: the terminal belongs to the report."""


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    # 32 added to the window size accepts both gzip's and zlib's header.
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = decompressor.decompress(body, MAX_BODY + 1)
    except zlib.error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST) from None
    if len(plain) > MAX_BODY:
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if not decompressor.eof:
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    return plain
