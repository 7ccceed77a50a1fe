"""The distro and the configurator: what `opentelemetry-instrument` asks before anything is instrumented."""

import logging
import os
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util._importlib_metadata import EntryPoint

from querywatch import exporters_fork, exporters_log, metrics, shutdown, system_metrics
from querywatch.guard import guarded
from querywatch.settings import Settings, from_environment
from querywatch.spans import KeepLocalRoots

_logger = logging.getLogger("querywatch")


class QueryWatchDistro(BaseDistro):
    """Defaults for OpenTelemetry's environment variables; one that is set stays as it is."""

    def _configure(self, **kwargs: Any) -> None:
        for name, value in defaults(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")).items():
            os.environ.setdefault(name, value)

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load an instrumentor as every distro does, but that of process and host with the instruments we chose."""
        if entry_point.name != system_metrics.ENTRY_POINT:
            super().load_instrumentor(entry_point, **kwargs)
        else:
            system_metrics.install(from_environment())


def defaults(endpoint: str) -> dict[str, str]:
    """Return the defaults for an OTLP `endpoint`, empty where none is set.

    OTLP goes over HTTP: a gRPC channel does not survive the fork of a pre-forking server such as gunicorn. An endpoint
    on 4317, the port of OTLP/gRPC, asks for gRPC.
    """
    protocol = "grpc" if urlsplit(endpoint).port == 4317 else "http/protobuf"
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
    }


class QueryWatchConfigurator(_OTelSDKConfigurator):
    """The SDK's own set-up, then what it has no parameter for: metric views, and roots that the sampler dropped."""

    def _configure(self, **kwargs: Any) -> None:
        settings = from_environment()
        if settings.enabled:
            exporters_fork.install()
        super()._configure(**kwargs)
        if settings.enabled:
            _add_views(settings)
            _keep_local_roots()
            exporters_log.install()
            shutdown.flush_on_sigterm()
            shutdown.limit_exit()


@guarded
def _add_views(settings: Settings) -> None:
    # `_init_metrics` takes no views (opentelemetry-python #2751); no instrument has been made yet that they could miss.
    config: Any = otel_metrics.get_meter_provider()._sdk_config
    config.views = (*config.views, *metrics.views(settings))


@guarded
def _keep_local_roots() -> None:
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.sampler = KeepLocalRoots(provider.sampler)
