"""Telemetry of forked processes, which the SDK (1.45.1) may silence for good: two ways, met under a pre-forking server.

A connection to the Collector is inherited: then parent and child read each other's answers, or wait for one that the
other has read (https://github.com/open-telemetry/opentelemetry-python/issues/4994). And a lock that the parent's
exporting thread held at the fork is released by nobody in the child.
"""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry.exporter.http.transport._requests import RequestsHTTPTransport
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal.measurement_consumer import SynchronousMeasurementConsumer

from querywatch.guard import guarded

#: Seconds that a fork waits for a collection of metrics, which takes milliseconds.
_PATIENCE: Final = 1.0


class _Forks:
    """Keeps forks out of collections, and gives a child what is its own."""

    def __init__(self) -> None:
        self._installed = False
        #: Held while metrics are collected. One thread may hold it twice: an instrument's callback may fork.
        self._collecting = threading.RLock()
        self._waited = False
        #: The process that a transport's connections belong to.
        self._owners: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        #: Pools of connections that belong to a parent. Kept: to close them takes locks that may be held for ever here.
        self._inherited: list[Any] = []

    @guarded
    def install(self) -> None:
        """Watch over the exporters and readers that are made from now on, once."""
        if self._installed:
            return
        self._installed = True
        _wrap(RequestsHTTPTransport, "request", self._request)
        _wrap(SynchronousMeasurementConsumer, "collect", self._collect)
        os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._in_child)

    def _request(self, request: Callable[..., Any], transport: Any, *args: Any, **kwargs: Any) -> Any:
        self._own_connections(transport)
        return request(transport, *args, **kwargs)

    def _collect(self, collect: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._collecting:
            return collect(*args, **kwargs)

    @guarded
    def _own_connections(self, transport: Any) -> None:
        process = os.getpid()
        if self._owners.setdefault(transport, process) == process:
            return
        self._owners[transport] = process
        for adapter in transport._session.adapters.values():
            self._inherited.append((adapter.poolmanager, adapter.proxy_manager))
            adapter.proxy_manager = {}
            adapter.init_poolmanager(adapter._pool_connections, adapter._pool_maxsize, adapter._pool_block)

    @guarded
    def _before(self) -> None:
        self._waited = self._collecting.acquire(timeout=_PATIENCE)

    @guarded
    def _after(self) -> None:
        if self._waited:
            self._collecting.release()

    @guarded
    def _in_child(self) -> None:
        self._collecting = threading.RLock()
        for reader in list(MeterProvider._all_metric_readers):
            if hasattr(reader, "_export_lock"):
                reader._export_lock = threading.Lock()


def _wrap(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, wrapped)


_forks: Final = _Forks()
#: Lets forked processes send telemetry of their own.
install: Final = _forks.install
