"""The walk through the bookshop: one plain HTTP request for each visit of its tour."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

VISIT_LIMIT = 60.0
"""Seconds after which a visit without an answer is given up."""


class Visit(Protocol):
    """A stop of the tour: what to request, the kinds of finding it shows, and the path of the fixed twin, if any."""

    @property
    def title(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def json(self) -> Any: ...
    @property
    def expects(self) -> Sequence[str]: ...
    @property
    def twin(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a visit got: the HTTP status, or an `error` in words; `start` and `end` are nanoseconds since the epoch."""

    visit: Visit
    status: int
    start: int
    end: int
    error: str = ""

    @property
    def worked(self) -> bool:
        """Whether the application answered with success."""
        return not self.error and self.status < 400


def load_tour(examples: Path) -> Sequence[Visit]:
    """Read the tour from its file, trouble of pools at its end; the application itself is not imported."""
    name = "bookshop_tour"
    spec = importlib.util.spec_from_file_location(name, examples / "bookshop" / "tour.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    # Dataclasses look their own module up.
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Sequence[Visit], (*module.TOUR, *module.POOL_TOUR))


def walk(tour: Sequence[Visit], url: str) -> Iterator[Answer]:
    """Visit every stop below `url`, one after the other."""
    # The user's proxy does not know our loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return (_visit(opener, visit, url) for visit in tour)


def _visit(opener: urllib.request.OpenerDirector, visit: Visit, url: str) -> Answer:
    body = None if visit.json is None else json.dumps(visit.json).encode()
    request = urllib.request.Request(url + visit.path, body, {"Content-Type": "application/json"}, method=visit.method)
    status, problem, start = 0, "", time.time_ns()
    try:
        with opener.open(request, timeout=VISIT_LIMIT) as response:
            response.read()
            status = response.status
    except urllib.error.HTTPError as error:
        status, problem = error.code, f"status {error.code}"
        error.close()
    except OSError as error:
        problem = str(getattr(error, "reason", error))
    return Answer(visit, status, start, time.time_ns(), problem)
