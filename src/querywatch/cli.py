"""The command `querywatch`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return _demo(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`head`, `less`) has gone; the interpreter must not flush to it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _demo(options: argparse.Namespace) -> int:
    from querywatch.demo import DemoError
    from querywatch.demo.command import Options, run

    try:
        return run(Options(otlp=options.otlp, database_url=options.database_url, json=options.json))
    except DemoError as error:
        sys.stderr.write(f"querywatch demo: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="querywatch",
        description="Slow queries, N+1 and heavy requests of Flask + SQLAlchemy applications, through OpenTelemetry.",
    )
    parser.add_argument("--version", action="version", version=f"querywatch {version('querywatch')}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    about = "Drive a bookshop full of well-known mistakes and report what its telemetry says."
    demo = commands.add_parser("demo", help=about, description=about)
    demo.add_argument(
        "--otlp", metavar="URL", default="", help="also send to this Collector, e.g. http://localhost:4318"
    )
    demo.add_argument(
        "--database-url",
        metavar="URL",
        default="",
        help="use this database (SQLAlchemy URL) instead of a temporary SQLite file",
    )
    demo.add_argument("--json", action="store_true", help="print the findings as JSON, and nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
