"""The instrumentor: what `opentelemetry-instrument` loads, under whichever distro, and what a program calls itself."""

import os
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_DISABLED_INSTRUMENTATIONS
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from querywatch import pipeline, system_metrics
from querywatch.guard import guarded
from querywatch.settings import Settings


class QueryWatchInstrumentor(BaseInstrumentor):
    """Puts the pipeline in place; contrib's instrumentors for Flask and SQLAlchemy are loaded beside it."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: the distribution's own requirements hold them all."""
        return ()

    # An exception here would end the auto-instrumentation of everything else.
    @guarded
    def _instrument(self, **kwargs: Any) -> None:
        pipeline.install(adopt_engines="sqlalchemy" not in _disabled())

    @guarded
    def _uninstrument(self, **kwargs: Any) -> None:
        pipeline.uninstall()


def _disabled() -> set[str]:
    return {name.strip() for name in os.environ.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "").split(",")}


def instrument(settings: Settings | None = None) -> None:
    """Instrument a program that sets up its OpenTelemetry SDK itself. Call it after that; as often as you like.

    Instruments Flask, SQLAlchemy, process and host through OpenTelemetry's own packages where that has not been done,
    for applications and engines made before as well as after. `settings` replaces the environment variables, and
    counts in the first call only.
    """
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    installed = pipeline.install(settings)
    if installed is None:
        return
    for instrumentor in (FlaskInstrumentor(), SQLAlchemyInstrumentor()):
        supported = instrumentor._check_dependency_conflicts() is None
        if supported and not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument()
    system_metrics.install(installed.settings)
