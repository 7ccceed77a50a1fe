"""A Collector that can't be reached: one warning, not one a second."""

import logging
from collections.abc import Iterator

import pytest

from querywatch.exporters_log import RECOVERED, REPEAT, OnceInAWhile

TRANSIENT = "Transient error %s encountered while exporting %s batch, retrying in %.2fs."
REFUSED = "Failed to export %s batch code: %s, reason: %s"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.exporter")
    once = OnceInAWhile(clock)
    logger.addFilter(once)
    yield logger
    logger.removeFilter(once)


def test_one_warning_for_all_attempts(log: logging.Logger, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Every signal fails and is tried again: the first failure is told, with the reason and what it means."""
    for signal in ("spans", "logs", "metrics") * 20:
        log.warning(TRANSIENT, "refused", signal, 1.0)
        log.error("Failed to export %s batch due to timeout, max retries or shutdown.", signal)
        clock.now += 5
    assert len(caplog.records) == 1
    assert "Transient error refused encountered while exporting spans" in caplog.text
    assert "The application is not affected." in caplog.text


def test_it_is_told_again_after_ten_minutes(
    log: logging.Logger, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """While it lasts the failure is told every ten minutes."""
    for _ in range(int(REPEAT * 2.5 / 10)):
        log.warning(TRANSIENT, "refused", "spans", 1.0)
        clock.now += 10
    assert len(caplog.records) == 3


def test_a_new_failure_is_told_at_once(log: logging.Logger, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """When exports have worked in between, which shows in the silence, the next failure is news."""
    log.warning(TRANSIENT, "refused", "spans", 1.0)
    clock.now += RECOVERED
    log.warning(TRANSIENT, "refused", "spans", 1.0)
    assert len(caplog.records) == 2


def test_refusals_are_told_for_each_signal_and_status(
    log: logging.Logger, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver that takes spans only, or wants a password, says so once for each signal."""
    for _ in range(10):
        log.error(REFUSED, "logs", 404, "Not Found")
        log.error(REFUSED, "metrics", 404, "Not Found")
        log.error(REFUSED, "metrics", 401, "Unauthorized")
        clock.now += 1
    assert [record.getMessage().count("404") for record in caplog.records] == [1, 1, 0]


def test_everything_else_passes_unchanged(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    """What does not tell of a failed export is none of our business."""
    caplog.set_level(logging.DEBUG, logger="tests.exporter")
    for _ in range(2):
        log.warning("Dropping span batch: serialized size %d bytes.", 7)
        log.debug("Transient error %s", "refused")
    assert [record.getMessage() for record in caplog.records] == [
        "Dropping span batch: serialized size 7 bytes.",
        "Transient error refused",
    ] * 2


def test_what_is_logged_with_the_message_alone(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    """A record without arguments is told as it is."""
    log.warning("Shutdown in progress, aborting retry.")
    assert "can't be sent: Shutdown in progress, aborting retry. The" in caplog.text
