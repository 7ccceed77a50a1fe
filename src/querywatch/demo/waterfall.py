"""A trace as rows of a waterfall, in which repeated queries are one row."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from querywatch import semconv
from querywatch.demo.telemetry import Span

Children = dict[str, list[Span]]


@dataclass(frozen=True, slots=True)
class Row:
    """One span, or several equal ones below the same parent, `depth` levels below the root."""

    spans: tuple[Span, ...]
    depth: int

    @property
    def name(self) -> str:
        """The query's summary, or the span's name."""
        return str(self.spans[0].attributes.get(semconv.DB_QUERY_SUMMARY) or self.spans[0].name)

    @property
    def relationship(self) -> str:
        """The lazily loaded relationship (`Author.books`), empty when it is none."""
        return str(self.spans[0].attributes.get(semconv.ORM_RELATIONSHIP, ""))

    @property
    def seconds(self) -> float:
        """The sum of the durations."""
        return sum(span.seconds for span in self.spans)

    @property
    def mark(self) -> str:
        """What is wrong with it: `N+1`, `critical`, `slow`, or nothing."""
        if any(span.attributes.get(semconv.N_PLUS_ONE) for span in self.spans):
            return "N+1"
        severities = {span.attributes.get(semconv.QUERY_SEVERITY) for span in self.spans}
        return next((severity for severity in ("critical", "slow") if severity in severities), "")

    def bar(self, start: int, end: int, width: int, full: str = "█") -> str:
        """Draw the spans on an axis of `width` cells from `start` to `end` (ns); each one fills a cell at least."""
        cell = max(end - start, 1) / width
        filled = {position for span in self.spans for position in _cells(span, start, cell, width)}
        return "".join(full if position in filled else " " for position in range(width))


def rows(trace: Iterable[Span]) -> list[Row]:
    """Return the trace's rows, parents before children and else by time."""
    spans = sorted(trace, key=lambda span: (span.start, -span.end))
    known = {span.span_id for span in spans}
    children: Children = defaultdict(list)
    for span in spans:
        children[span.parent_id if span.parent_id in known else ""].append(span)
    return list(_below("", children, 0))


def axis(trace: Sequence[Span]) -> tuple[int, int]:
    """Return the first start and the last end of the trace's spans, in nanoseconds."""
    return min(span.start for span in trace), max(span.end for span in trace)


def _below(parent: str, children: Children, depth: int) -> Iterator[Row]:
    for spans in _folded(children.get(parent, []), children):
        yield Row(spans, depth)
        if len(spans) == 1:
            yield from _below(spans[0].span_id, children, depth + 1)


def _folded(siblings: list[Span], children: Children) -> list[tuple[Span, ...]]:
    groups: dict[object, list[Span]] = {}
    for span in siblings:
        groups.setdefault(_fold_key(span, children), []).append(span)
    return [tuple(group) for group in groups.values()]


def _fold_key(span: Span, children: Children) -> object:
    if span.span_id in children:
        return span.span_id
    names = (semconv.ORM_RELATIONSHIP, semconv.QUERY_FINGERPRINT)
    key = next((str(span.attributes[name]) for name in names if name in span.attributes), span.name)
    return span.kind, key


def _cells(span: Span, start: int, cell: float, width: int) -> range:
    first = min(int((span.start - start) / cell), width - 1)
    return range(first, max(first + 1, math.ceil((span.end - start) / cell)))
