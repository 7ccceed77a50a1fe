"""Whatever breaks inside QueryWatch, the application's answers, rows and exceptions stay as they are."""

import json
import subprocess
import sys
from typing import Any

import pytest

from e2e.callbacks import GUARDED
from e2e.program import TESTS, environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every run of `e2e.faults` has seen: one for each guarded callback, which raises in it."""
    directory = tmp_path_factory.mktemp("faults")
    command = [sys.executable, "-m", "e2e.faults", str(directory)]
    done = subprocess.run(
        command, cwd=TESTS, env=environment(""), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_every_callback_has_its_run(reports: dict[str, Any]) -> None:
    """The runs cover the whole table of guarded callbacks."""
    assert {*reports} == {*GUARDED, "plain", "healthy"}


def test_intact_callbacks_log_nothing(reports: dict[str, Any]) -> None:
    """Without a fault QueryWatch logs no error, and the application does what it does without OpenTelemetry."""
    assert [line for line in reports["healthy"]["notes"] if "failed" in line] == []
    assert reports["healthy"]["seen"] == reports["plain"]["seen"]


@pytest.mark.parametrize("name", sorted(GUARDED))
def test_a_callback_that_raises_changes_nothing(reports: dict[str, Any], name: str) -> None:
    """Answers, headers, rows, the application's own exceptions and the exit status are those without OpenTelemetry."""
    report = reports[name]
    assert "called" in report["notes"], "the scenario does not reach this callback, so it shows nothing"
    assert report["seen"] == reports["plain"]["seen"]
    assert report["status"] == reports["plain"]["status"] == 3


@pytest.mark.parametrize("name", sorted(GUARDED))
def test_a_fault_is_logged_once(reports: dict[str, Any], name: str) -> None:
    """One log record says which callback failed, however often it did."""
    told = [line for line in reports[name]["notes"] if " failed" in line]
    assert told == [
        f"QueryWatch: {name} failed; the application is not affected, further errors of this kind are not logged"
    ]
