"""The report on a terminal, or as plain text where the output is none; needs `rich` (the extra `demo`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from querywatch import semconv
from querywatch.demo import waterfall
from querywatch.demo.finding import Finding
from querywatch.demo.pools import Pool
from querywatch.demo.report import Report, Request
from querywatch.settings import DEFAULTS

_STYLES: Final = {"critical": "bold red", "warning": "yellow", "slow": "yellow", "N+1": "bold red"}
_INDENT: Final = 4
#: Cells of a pool's bar.
_BAR: Final = 10
_NARROWEST: Final = 60
_WIDEST: Final = 200


@dataclass(frozen=True, slots=True)
class _Glyphs:
    bar: str
    times: str
    arrow: str


_UNICODE: Final = _Glyphs("█", "\N{MULTIPLICATION SIGN}", "→")
_ASCII: Final = _Glyphs("#", "x", "->")


class Renderer:
    """Prints the parts of a report to a console, in colour where it is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = max(_NARROWEST, min(console.width, _WIDEST))
        self._glyphs = _ASCII if console.options.ascii_only else _UNICODE

    def print(self, report: Report) -> None:
        """Print the ranked findings, the worst trace and N+1, the comparison with the fixed twins, and the pools."""
        self._findings(report)
        worst, n_plus_one = report.worst, report.worst_n_plus_one
        if worst is not None:
            self._trace("The worst trace", worst, report)
        if n_plus_one is not None and n_plus_one != worst:
            self._trace("The worst N+1", n_plus_one, report)
        if report.twins:
            self._twins(report.twins)
        if report.pools:
            self._pools(report.pools)

    def line(self, text: str, style: str = "") -> None:
        """Print a paragraph, wrapped at the console's width."""
        self._print(Text(text, style))

    def _print(self, renderable: RenderableType = "") -> None:
        if self._console.is_terminal:
            self._console.print(renderable, width=self._width)
            return
        # rich fills every cell up with blanks, which a file need not keep.
        with self._console.capture() as capture:
            self._console.print(renderable, width=self._width)
        self._console.file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())

    def _heading(self, text: str, note: str = "") -> None:
        self._print()
        self._print(Text(text, "bold"))
        if note:
            self._print(Text(note, "dim"))
        self._print()

    def _findings(self, report: Report) -> None:
        queries = sum(request.queries for request in report.requests)
        self._heading(f"{len(report.findings)} findings in {len(report.requests)} requests with {queries} queries")
        cells = (" #", "severity", "finding", "runs", "wasted ms", "key")
        self._print(_line(*(Text(cell, "dim") for cell in cells)))
        for number, finding in enumerate(report.findings, 1):
            self._print(self._summary(number, finding, report.summaries))
            self._print(self._where_and_fix(finding))

    def _summary(self, number: int, finding: Finding, summaries: dict[str, str]) -> Table:
        style = _STYLES.get(finding.severity, "")
        return _line(
            Text(str(number)),
            Text(finding.severity, style),
            Text(finding.kind, "bold"),
            Text(str(finding.runs)),
            Text(_milliseconds(finding.wasted) if finding.wasted else "-", style),
            Text(_key(finding, summaries), "bold"),
        )

    def _where_and_fix(self, finding: Finding) -> Padding:
        """Return route and place, on one line where they fit, with the advice below."""
        more = f" (and {finding.requests - 1} more)" if finding.requests > 1 else ""
        parts = [Text(part, style) for part, style in ((finding.route + more, ""), (place(finding), "cyan")) if part]
        fits = sum(cell_len(part.plain) + 2 for part in parts) <= self._width - _INDENT
        where = Text("  " if fits else "\n", overflow="fold").join(parts)
        advice = Table.grid(Column(), Column(overflow="fold"), padding=(0, 1, 0, 0), pad_edge=False)
        advice.add_row(self._glyphs.arrow, Text(finding.advice))
        return Padding(Group(where, advice), (0, 0, 0, _INDENT))

    def _trace(self, title: str, request: Request, report: Report) -> None:
        self._heading(f"{title}: {request.visit.method} {request.visit.path}", f"trace {_trace_id(request)}")
        self._print(self._waterfall(request))
        for finding in request.findings:
            self._print()
            what = f"{finding.kind}  {_key(finding, report.summaries)}".rstrip()
            self._print(Text(what, _STYLES.get(finding.severity, "")))
            self._print(self._where_and_fix(finding))

    def _waterfall(self, request: Request) -> Table:
        rows = waterfall.rows(request.trace)
        start, end = waterfall.axis(request.trace)
        labels = [self._label(row) for row in rows]
        # Beside the label: mark, milliseconds, three gaps, and 20 cells for the bar at least.
        label_width = min(max(map(cell_len, labels)), self._width - 40)
        bar_width = self._width - label_width - 20
        total = f"{_milliseconds((end - start) / 1e9)} ms"
        header = f"0{total:>{bar_width - 1}}"
        columns = (
            Column("", width=8),
            Column("", width=label_width, overflow="fold"),
            Column("ms", width=9, justify="right"),
            Column(header, width=bar_width, no_wrap=True),
        )
        table = Table(*columns, box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
        for row, label in zip(rows, labels, strict=True):
            style = _STYLES.get(row.mark, "")
            bar = row.bar(start, end, bar_width, self._glyphs.bar)
            table.add_row(Text(row.mark, style), Text(label), _milliseconds(row.seconds), Text(bar, style or "blue"))
        return table

    def _label(self, row: waterfall.Row) -> str:
        times = f"{len(row.spans)} {self._glyphs.times} " if len(row.spans) > 1 else ""
        return f"{'  ' * row.depth}{times}{row.name}  {row.relationship}".rstrip()

    def _twins(self, twins: Sequence[tuple[Request, Request]]) -> None:
        clean = sum(not fixed.findings for _, fixed in twins)
        saved = sum(bad.seconds - fixed.seconds for bad, fixed in twins)
        fewer = sum(bad.queries - fixed.queries for bad, fixed in twins)
        self._heading(
            f"Fixed twins: {clean} of {len(twins)} without findings, "
            f"{fewer} queries and {_milliseconds(saved)} ms less for the same answers"
        )
        numbers = (Column(name, justify="right", no_wrap=True) for name in ("queries", "ms"))
        columns = (Column("route", overflow="fold"), *numbers, Column("fixed twin", overflow="fold"))
        table = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for bad, fixed in twins:
            flag = Text(f"still {', '.join(_kinds(fixed))}", "bold red") if fixed.findings else Text("clean", "green")
            queries = f"{bad.queries} {self._glyphs.arrow} {fixed.queries:>2}"
            times = f"{_milliseconds(bad.seconds)} {self._glyphs.arrow} {_milliseconds(fixed.seconds):>6}"
            table.add_row(f"{bad.visit.method} {bad.visit.path}", queries, times, flag)
        self._print(table)

    def _pools(self, pools: Sequence[Pool]) -> None:
        leaked, timed_out = sum(len(pool.leaks) for pool in pools), sum(pool.timeouts for pool in pools)
        self._heading(f"Connection pools: {len(pools)}, leaks: {leaked}, timeouts: {timed_out}")
        cells = ("peak use", "", "of", "p95 wait", "timeouts", "leaks", "health", "pool")
        self._print(_pool_line(*(Text(cell, "dim") for cell in cells)))
        for pool in pools:
            self._print(self._pool(pool))
            for leak in pool.leaks:
                route = f"{leak.route}  " if leak.route else ""
                self._print(Padding(Text(f"leak: {route}{place(leak)}", overflow="fold"), (0, 0, 0, _INDENT)))

    def _pool(self, pool: Pool) -> Table:
        peak = pool.peak or 0.0
        bar = self._glyphs.bar * round(min(peak, 1.0) * _BAR)
        return _pool_line(
            Text(bar, _pool_style(pool) or "blue"),
            Text("-" if pool.peak is None else f"{peak:.0%}"),
            Text("-" if pool.maximum is None else str(pool.maximum)),
            Text("-" if pool.wait_p95 is None else f"{_milliseconds(pool.wait_p95)} ms"),
            *(Text(str(number), "bold red" if number else "") for number in (pool.timeouts, len(pool.leaks))),
            Text("-" if pool.health is None else f"{pool.health:.2f}", _pool_style(pool)),
            Text(pool.name, "bold"),
        )


def place(finding: Finding) -> str:
    """Return `file:line` of the application's code, relative to the working directory where it lies below that."""
    path = finding.attributes.get(semconv.CODE_FILE_PATH)
    if not path:
        return ""
    file = Path(path)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{shown}:{finding.attributes.get(semconv.CODE_LINE_NUMBER, 0)}"


def _line(*cells: RenderableType) -> Table:
    columns = (
        Column(width=2, justify="right"),
        Column(width=8),
        Column(width=15),
        Column(width=5, justify="right"),
        Column(width=9, justify="right"),
        Column(overflow="fold"),
    )
    table = Table.grid(*columns, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_row(*cells)
    return table


def _pool_line(*cells: RenderableType) -> Table:
    widths = (5, 4, 10, 8, 5, 6)
    columns = (
        Column(width=_BAR),
        *(Column(width=width, justify="right") for width in widths),
        Column(overflow="fold"),
    )
    table = Table.grid(*columns, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_row(*cells)
    return table


def _pool_style(pool: Pool) -> str:
    """Red where checkouts failed or connections are lost, yellow where it was nearly empty."""
    if pool.timeouts or pool.leaks:
        return _STYLES["critical"]
    return _STYLES["warning"] if (pool.peak or 0.0) > DEFAULTS.pool_warning else ""


def _key(finding: Finding, summaries: dict[str, str]) -> str:
    """Return the key without what stands beside it: a route's own key, and a statement's file and line."""
    fingerprint, at, _ = finding.key.partition("@")
    if at:
        return f"{summaries.get(fingerprint, '')}  {fingerprint}".strip()
    return "" if finding.key and finding.route.endswith(finding.key) else finding.key


def _kinds(request: Request) -> list[str]:
    return sorted({finding.kind for finding in request.findings})


def _trace_id(request: Request) -> str:
    return request.span.trace_id if request.span else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
