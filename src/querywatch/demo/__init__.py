"""`querywatch demo`: the bookshop under the real wrapper, and what came out of it through OTLP.

Nothing in this package is imported by the plugin; it reads received telemetry and never the application.
"""


class DemoError(Exception):
    """The demo cannot go on; the message is for the user."""
