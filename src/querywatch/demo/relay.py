"""Hands received OTLP bodies on to a real Collector."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from querywatch.demo import DemoError


class Relay:
    """Sends bodies to the OTLP/HTTP endpoint `url` (without `/v1/…`); `failure` says in words what went wrong first."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DemoError(f"--otlp {url}: expected a URL such as http://localhost:4318")
        self.url = url.rstrip("/")
        self.failure = ""
        self.sent_bytes = 0
        self._timeout = timeout
        self._headers = parse_env_headers(os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", ""), liberal=True)

    def check(self) -> None:
        """Send an empty request; raise `DemoError` when it is not accepted."""
        self.send("/v1/traces", b"")
        if self.failure:
            raise DemoError(self.failure)

    def send(self, path: str, body: bytes) -> None:
        """Send one body; a failure is remembered, not raised: the application must not notice."""
        headers = {**self._headers, "Content-Type": "application/x-protobuf"}
        request = urllib.request.Request(self.url + path, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self._timeout):
                self.sent_bytes += len(body)
        except urllib.error.HTTPError as error:
            self._fail(path, f"HTTP status {error.code} {error.reason}")
        except urllib.error.URLError as error:
            self._fail(path, str(error.reason))
        except (OSError, http.client.HTTPException) as error:
            self._fail(path, f"{error!r} (it must speak OTLP over HTTP, usually on port 4318)")

    def _fail(self, path: str, reason: str) -> None:
        self.failure = self.failure or f"cannot send to {self.url}{path}: {reason}"
