"""SQLAlchemy under the wrapper, whichever version the environment has: 2.1, too, which plain contrib skips."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from packaging.version import Version

from e2e import models
from e2e.program import TESTS, Program, Story, environment, told, wrapper
from querywatch.demo.receiver import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.sqlalchemy_matrix]

CONTRIB_SKIPS_IT = Version(sqlalchemy.__version__) >= Version("2.1")


def run(directory: Path, **variables: str) -> Story:
    """The script's four pieces of work."""
    url = f"sqlite:///{directory}/shop.db"
    models.fill(url)
    with Receiver() as receiver:
        story = Story(receiver)
        command = [*wrapper(), sys.executable, str(TESTS / "e2e" / "script.py")]
        with Program(
            command, environment(receiver.endpoint, DATABASE_URL=url, **variables), directory / "out"
        ) as program:
            story.status = program.wait()
            story.output = program.output
    return story


def is_complete(story: Story) -> bool:
    """Whether the consumer's trace has its finding and one tagged span for each query."""
    got = told(story.receiver, f"{0xA:032x}")
    tagged = [span for span in got.queries if "querywatch.query.fingerprint" in span.attributes]
    return len(got.queries) == len(tagged) == models.AUTHORS + 1 and got.kinds == ["n_plus_one"]


def test_database_spans_and_findings_arrive(tmp_path: Path) -> None:
    """On every version; where contrib skips it, one warning says what is done about it."""
    story = run(tmp_path)
    assert (story.status, is_complete(story)) == (0, True), story.output
    warnings = [line for line in story.output.splitlines() if "QueryWatch traces its engines all the same" in line]
    assert len(warnings) == CONTRIB_SKIPS_IT


def test_it_works_without_greenlet(tmp_path: Path) -> None:
    """Greenlet is for asyncio only: without it the program runs, and all is found."""
    (tmp_path / "greenlet.py").write_text("raise ImportError('no greenlet here')\n")
    without = f"{tmp_path}:{TESTS}"
    check = [sys.executable, "-c", "import greenlet"]
    assert (
        subprocess.run(check, env=environment("", PYTHONPATH=without), capture_output=True, check=False).returncode == 1
    )
    story = run(tmp_path, PYTHONPATH=without)
    assert (story.status, is_complete(story)) == (0, True), story.output
    assert "Traceback" not in story.output
