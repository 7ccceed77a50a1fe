"""A program that sets its SDK up itself and calls `querywatch.instrument()`, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e import models
from e2e.program import TESTS, environment

pytestmark = pytest.mark.sqlalchemy_matrix

QUERIES = models.AUTHORS + 1


def run(scenario: str, directory: Path) -> dict[str, Any]:
    url = f"sqlite:///{directory}/shop.db"
    models.fill(url)
    command = [sys.executable, "-m", "e2e.own_sdk", scenario]
    variables = environment("", DATABASE_URL=url)
    done = subprocess.run(command, cwd=TESTS, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_engines_and_applications_of_before_and_after(tmp_path: Path) -> None:
    """Made before or after the calls of `instrument()`, with Flask-SQLAlchemy or without: each has its finding once."""
    one = [["querywatch.n_plus_one"], QUERIES, QUERIES, QUERIES]
    assert run("several", tmp_path) == {"answers": 1, "GET /old": one, "GET /new": one, "GET /extension": one}


def test_an_engine_per_request_leaves_nothing_behind(tmp_path: Path) -> None:
    """Disposed or not, engines are collected; neither our set of engines nor SQLAlchemy's event registry grows."""
    seen = run("engines_of_requests", tmp_path)
    assert seen["alive"] == []
    assert seen["after"] == seen["before"]


def test_everything_can_be_taken_back(tmp_path: Path) -> None:
    """After `uninstall` no listener of ours is on the Engine class."""
    assert run("uninstrumented", tmp_path) == {"contains": [False, True, False]}
