"""The one place where the parts are put together: repeatable, and reversible."""

import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.metrics import get_meter
from opentelemetry.sdk.trace import TracerProvider

from querywatch.metrics import OperationDuration
from querywatch.outputs import Outputs
from querywatch.pool.sizing import PoolSize, recommend_pool_size
from querywatch.settings import Settings, from_environment
from querywatch.spans import Requests, RootSpans

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_lock: Final = threading.Lock()
_installed: "Pipeline | None" = None


class Hook(Protocol):
    """Something that is hooked into the host."""

    def install(self) -> None:
        """Hook in."""

    def uninstall(self) -> None:
        """Take that back."""


class Pipeline:
    """Hooks, windows, detectors and outputs of one process."""

    def __init__(self, settings: Settings, *, adopt_engines: bool) -> None:
        # Off means absent: only here are the hooks, and with them Flask and SQLAlchemy, imported.
        from querywatch.hooks import adopt, asgi, engine, flask, orm, pool
        from querywatch.pool.instruments import PoolInstruments
        from querywatch.pool.state import Pools
        from querywatch.pool.watch import PoolWatch

        self.settings = settings
        outputs = Outputs(settings)
        self.requests = Requests(settings, outputs)
        self._root_spans = RootSpans(self.requests)
        self._providers: list[object] = []
        meter = get_meter("querywatch")
        durations = None if adopt.contrib_records_durations() else OperationDuration(meter, settings)
        self._hooks: list[Hook] = [engine.EngineHooks(settings, durations)]
        self._hooks += [flask.FlaskHook(self.requests), asgi.AsgiHook(self.requests)]
        self.pools = pools = Pools(settings)
        instruments = PoolInstruments(meter, pools, settings)
        watch = PoolWatch(pools, settings, outputs, instruments)
        self.requests.closing.append(watch.request_closed)
        self._hooks.append(pool.PoolHook(pools, instruments, watch))
        if settings.pool_recovery:
            from querywatch.hooks import recovery

            recover = recovery.RecoveryHook(watch, instruments)
            self.requests.closing.append(recover.request_closed)
            self._hooks.append(recover)
        if adopt_engines:
            self._hooks.append(adopt.EngineAdoption())
        if orm.is_supported():
            self._hooks.append(orm.OrmHook())
        if settings.pool_profile is not None:
            from querywatch.hooks import profile

            self._hooks.append(profile.ProfileHook(settings.pool_profile, settings))

    def install(self) -> None:
        """Register every hook."""
        for hook in self._hooks:
            hook.install()

    def uninstall(self) -> None:
        """Take every hook back."""
        self._root_spans.enabled = False
        for hook in reversed(self._hooks):
            hook.uninstall()

    def watch(self, provider: object) -> None:
        """See the spans of `provider`, once; one that is none of the SDK's has no spans to see."""
        if isinstance(provider, TracerProvider) and not any(provider is known for known in self._providers):
            self._providers.append(provider)
            provider.add_span_processor(self._root_spans)


def install(settings: Settings | None = None, *, adopt_engines: bool = True) -> Pipeline | None:
    """Put the pipeline in place and let it see the global tracer provider; None where the settings switch it off.

    May be called as often as one likes: later calls only look whether there is a new tracer provider.
    """
    global _installed
    settings = settings or from_environment()
    if not settings.enabled:
        return None
    with _lock:
        if _installed is None:
            pipeline = Pipeline(settings, adopt_engines=adopt_engines)
            pipeline.install()
            _installed = pipeline
        _installed.watch(trace.get_tracer_provider())
        return _installed


def uninstall() -> None:
    """Take the pipeline out again."""
    global _installed
    with _lock:
        if _installed is not None:
            _installed.uninstall()
            _installed = None


def recommend_pool_size_of(engine: "Engine", **known: Any) -> PoolSize:
    """Return how many connections the pool of `engine` needs, from what was measured in this process so far.

    Use time is the mean of all returned connections, the rate that of the busiest ten seconds. `known` is what nobody
    can measure here: `threads`, `database_limit`, `processes` and the other arguments of `recommend_pool_size`, which
    also has the formulas. Raises a RuntimeError where QueryWatch is not installed or no connection was returned yet.
    """
    if _installed is None:
        raise RuntimeError("QueryWatch is not installed in this process: nothing was measured")
    state = _installed.pools.of(engine)
    if not state.use_time:
        raise RuntimeError(f"no connection of {state.name} has been returned yet: nothing was measured")
    return recommend_pool_size(use_time=state.use_time, checkout_rate=state.peak_rate, **known)
