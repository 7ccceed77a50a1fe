"""QueryWatch: slow queries, N+1 patterns and heavy requests of Flask + SQLAlchemy applications, in OpenTelemetry.

Under `opentelemetry-instrument` nothing needs to be imported. A program that sets up its SDK itself calls
`querywatch.instrument()`.
"""

from importlib.metadata import version

from querywatch.findings import Finding, Kind, Severity
from querywatch.instrumentor import instrument
from querywatch.pipeline import recommend_pool_size_of
from querywatch.pool.profiles import engine_options
from querywatch.pool.sizing import recommend_pool_size
from querywatch.settings import Settings

__version__ = version("querywatch")

__all__ = [
    "Finding",
    "Kind",
    "Settings",
    "Severity",
    "__version__",
    "engine_options",
    "instrument",
    "recommend_pool_size",
    "recommend_pool_size_of",
]
