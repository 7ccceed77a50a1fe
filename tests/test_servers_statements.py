"""A statement that is empty, huge, not a string or no SQL at all: the driver's answer, no error of ours, a tag."""

import json
import subprocess
import sys
from typing import Any

import pytest

from e2e.program import TESTS, environment
from e2e.statements import STATEMENTS

pytestmark = [pytest.mark.slow, pytest.mark.sqlalchemy_matrix]
drivers = pytest.mark.parametrize(
    "database_url", ["sqlite", "postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"], indirect=True
)


def run(mode: str, database_url: str) -> tuple[dict[str, Any], str]:
    command = [sys.executable, "-m", "e2e.statements", mode]
    variables = environment("", DATABASE_URL=database_url)
    done = subprocess.run(command, cwd=TESTS, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen, done.stderr


@drivers
def test_strange_statements(database_url: str) -> None:
    """Each has the result or the exception that it has alone, is tagged, and makes no attribute of 2000 characters."""
    plain, _ = run("plain", database_url)
    watched, printed = run("watched", database_url)
    assert watched["outcomes"] == plain["outcomes"]
    assert watched["tagged"] == len(STATEMENTS)
    assert watched["longest"] < 2000
    assert "QueryWatch: " not in printed
