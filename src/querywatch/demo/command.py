"""The command itself: receiver, server, walk and report, one after the other."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from querywatch import settings
from querywatch.demo import DemoError
from querywatch.demo.receiver import Receiver
from querywatch.demo.relay import Relay
from querywatch.demo.report import Report, build, complete
from querywatch.demo.server import SERVICE_NAME, Server, environment, examples_folder
from querywatch.demo.walk import Answer, load_tour, walk

ARRIVAL_LIMIT = 10.0
"""Seconds to wait for the telemetry of the last requests before the server is stopped, which flushes the rest."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; empty means the demo's own receiver, and a temporary SQLite database."""

    otlp: str = ""
    database_url: str = ""
    json: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished walk: the report, the thresholds that were in force, and how many items of each signal came."""

    report: Report
    thresholds: settings.Settings
    received: dict[str, int]


def run(options: Options) -> int:
    """Run the demo and print its report to standard output; return the exit status."""
    _require_extra()
    relay = Relay(options.otlp) if options.otlp else None
    if relay:
        relay.check()
    with _terminable(), tempfile.TemporaryDirectory(prefix="querywatch-demo-") as folder:
        outcome = _outcome(options, relay, Path(folder))
    _print(outcome, options)
    if problem := _problem(outcome.report, relay):
        sys.stderr.write(f"querywatch demo: {problem}\n")
    return int(bool(problem))


def _outcome(options: Options, relay: Relay | None, folder: Path) -> Outcome:
    examples = examples_folder()
    tour = load_tour(examples)
    database_url = options.database_url or f"sqlite:///{folder / 'bookshop.db'}"
    answers: list[Answer] = []
    with Receiver(relay=relay) as receiver:
        variables = environment(os.environ, receiver.endpoint, database_url)
        with (
            _progress(len(tour), options.json) as progress,
            Server(examples, variables, folder / "bookshop.log") as server,
        ):
            for answer in walk(tour, server.url):
                answers.append(answer)
                progress(answer.visit.title)
            receiver.wait(lambda received: complete(answers, received.spans, received.logs), ARRIVAL_LIMIT)
        report = build(answers, receiver.spans, receiver.logs, receiver.metrics)
        if not receiver.spans:
            raise DemoError(f"no telemetry came from the bookshop; its last lines:\n{server.last_lines()}")
        received = {
            "spans": len(receiver.spans),
            "log_records": len(receiver.logs),
            "metric_points": len(receiver.metrics),
        }
    return Outcome(report, settings.load(variables), received)


def _problem(report: Report, relay: Relay | None) -> str:
    failed = [request for request in report.requests if not request.answer.worked]
    if failed:
        first = failed[0]
        return f"{len(failed)} visits failed, first {first.visit.method} {first.visit.path}: {first.answer.error}"
    missing = sum(request.span is None for request in report.requests)
    if missing:
        return f"no telemetry came of {missing} of {len(report.requests)} requests"
    return relay.failure if relay else ""


def _print(outcome: Outcome, options: Options) -> None:
    if options.json:
        sys.stdout.write(json.dumps(as_json(outcome), indent=2) + "\n")
        return
    from rich.console import Console

    from querywatch.demo.render import Renderer

    renderer = Renderer(Console(highlight=False, emoji=False, markup=False))
    renderer.print(outcome.report)
    renderer.line("")
    for sentence in _footer(outcome, options):
        renderer.line(sentence, "dim")


def _footer(outcome: Outcome, options: Options) -> Iterator[str]:
    limits, received = outcome.thresholds, outcome.received
    yield (
        f"Thresholds of this demo: slow query {limits.slow_query_threshold:g} s, "
        f"critical query {limits.critical_query_threshold:g} s, slow request {limits.slow_request_threshold:g} s, "
        f"more than {limits.max_queries_per_request} queries, N+1 from {limits.n_plus_one_threshold} runs."
    )
    yield (
        f"All of this came through OTLP: {received['spans']} spans, {received['log_records']} log records, "
        f"{received['metric_points']} metric points."
    )
    if options.otlp:
        yield f"It also went to {options.otlp}. In Jaeger: service {SERVICE_NAME}, tags querywatch.severity=critical"


def as_json(outcome: Outcome) -> dict[str, object]:
    """Return the outcome as JSON values; times are seconds."""
    limits = asdict(outcome.thresholds)
    return {
        "findings": [
            {
                "kind": finding.kind,
                "route": finding.route,
                "trace_id": finding.trace_id,
                "requests": finding.requests,
                **finding.attributes,
            }
            for finding in outcome.report.findings
        ],
        "visits": [
            {
                "title": request.visit.title,
                "method": request.visit.method,
                "path": request.visit.path,
                "status": request.answer.status,
                "expects": list(request.visit.expects),
                "twin": request.visit.twin,
                "findings": sorted({finding.kind for finding in request.findings}),
                "queries": request.queries,
                "duration": request.seconds,
                "trace_id": request.span.trace_id if request.span else None,
            }
            for request in outcome.report.requests
        ],
        "pools": [
            asdict(pool) | {"leaks": [{"route": leak.route, **leak.attributes} for leak in pool.leaks]}
            for pool in outcome.report.pools
        ],
        "thresholds": {name: value for name, value in limits.items() if name not in ("enabled", "ignore")},
        "received": outcome.received,
    }


def _require_extra() -> None:
    missing = [name for name in ("flask_sqlalchemy", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"{' and '.join(missing)} not installed: pip install 'querywatch[demo]'")


class _Progress:
    """Shows nothing; called with the title of each finished visit."""

    def __call__(self, title: str) -> None: ...


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[_Progress]:
    """Show a progress bar on the terminal, gone in the end; nothing where standard error is none."""
    if quiet or not sys.stderr.isatty():
        yield _Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting the bookshop", total=total)

        class Bar(_Progress):
            def __call__(self, title: str) -> None:
                bar.update(task, advance=1, description=title)

        yield Bar()


@contextmanager
def _terminable() -> Iterator[None]:
    """Clean up on SIGTERM as on Ctrl-C: the server would outlive the demo."""
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
