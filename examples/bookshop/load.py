"""A small load for the bookshop: walks the tour at random, quick pages far more often than slow ones.

cd examples
python -m bookshop.load --url http://127.0.0.1:5000 --seconds 10 --workers 4
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from statistics import median
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from bookshop.tour import TOUR, Visit

SLOW = ("slow_query", "slow_request")
MOST_WORKERS = 32
MOST_SECONDS = 3_600.0
TIMEOUT = 30  # seconds


@dataclass(frozen=True)
class Answer:
    """What one request gave: its status (0 when there was no answer) and how long it took, in seconds."""

    visit: Visit
    status: int
    duration: float


def weight(visit: Visit) -> int:
    """How often a route is visited, compared with the others."""
    if visit.expects:
        return 1 if visit.expects[0] in SLOW else 4
    return 8


def walk(base_url: str, seconds: float, number: int) -> list[Answer]:
    """One visitor: requests one after the other until the time is over or the shop cannot be reached."""
    rng = Random(number)
    weights = [weight(visit) for visit in TOUR]
    end = time.monotonic() + seconds
    answers: list[Answer] = []
    while time.monotonic() < end and not (answers and answers[-1].status == 0):
        answers.append(_ask(base_url, rng.choices(TOUR, weights)[0]))
    return answers


def _ask(base_url: str, visit: Visit) -> Answer:
    body = None if visit.json is None else json.dumps(visit.json).encode()
    headers = {"Content-Type": "application/json"}
    request = Request(base_url.rstrip("/") + visit.path, data=body, headers=headers, method=visit.method)
    start = time.monotonic()
    try:
        with urlopen(request, timeout=TIMEOUT) as response:
            response.read()
            status = response.status
    except HTTPError as error:
        with error:
            status = error.code
    except (URLError, TimeoutError, ConnectionError):
        status = 0
    return Answer(visit, status, time.monotonic() - start)


def _print(answers: list[Answer]) -> None:
    by_path = defaultdict(list)
    for answer in answers:
        by_path[f"{answer.visit.method:4} {answer.visit.path}"].append(answer)
    lines = [f"{'requests':>8} {'failed':>6} {'median ms':>9}  route"]
    for path, found in sorted(by_path.items()):
        failed = sum(1 for answer in found if not 200 <= answer.status < 300)
        lines.append(f"{len(found):8} {failed:6} {1000 * median(a.duration for a in found):9.1f}  {path}")
    sys.stdout.write("\n".join(lines) + "\n")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bookshop.load", description="A small load for the bookshop.")
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="where the bookshop listens (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to run (%(default)s, at most an hour)")
    parser.add_argument("--workers", type=int, default=4, help="visitors at the same time (%(default)s, at most 32)")
    arguments = parser.parse_args(argv)
    if not arguments.url.startswith(("http://", "https://")):
        parser.error("--url starts with http:// or https://")
    if not (0 < arguments.seconds <= MOST_SECONDS and 0 < arguments.workers <= MOST_WORKERS):
        parser.error("--seconds is more than 0 and at most 3600, --workers 1 to 32")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run the load and print a line per route; 1 when a request failed or the shop gave no answer."""
    arguments = _arguments(argv)
    with ThreadPoolExecutor(arguments.workers) as pool:
        walks = [pool.submit(walk, arguments.url, arguments.seconds, n) for n in range(arguments.workers)]
        answers = [answer for found in walks for answer in found.result()]
    _print(answers)
    return 0 if all(200 <= answer.status < 300 for answer in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
