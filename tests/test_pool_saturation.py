"""When a pool is full enough to say so. Pure: a number and a clock in, a severity out."""

import pytest

from querywatch.findings import Severity
from querywatch.pool.saturation import CALM, Saturation
from querywatch.settings import Settings


@pytest.fixture
def saturation() -> Saturation:
    return Saturation(Settings())


@pytest.mark.parametrize(
    ("utilization", "severity"),
    [
        (0.0, None),
        (0.80, None),
        (0.81, Severity.WARNING),
        (0.95, Severity.WARNING),
        (0.96, Severity.CRITICAL),
        (1.0, Severity.CRITICAL),
        (1.4, Severity.CRITICAL),
    ],
)
def test_thresholds_compare_strictly(saturation: Saturation, utilization: float, severity: Severity | None) -> None:
    """Exactly 80 % or 95 % is not over the threshold."""
    assert saturation.observe(utilization, 0.0) == severity


def test_a_time_out_is_critical_at_any_utilisation(saturation: Saturation) -> None:
    assert saturation.observe(0.0, 0.0, timed_out=True) is Severity.CRITICAL


def test_a_level_is_told_once(saturation: Saturation) -> None:
    """Staying over a threshold, however often it is looked at, and more time-outs are no news."""
    assert saturation.observe(1.0, 0.0) is Severity.CRITICAL
    assert [saturation.observe(1.0, float(n), timed_out=n % 2 == 0) for n in range(1, 200)] == [None] * 199


def test_it_rises_from_warning_to_critical(saturation: Saturation) -> None:
    """Each level is told when it is reached; falling back to the lower one is no finding."""
    told = [saturation.observe(utilization, n) for n, utilization in enumerate((0.9, 1.0, 0.9, 1.0))]
    assert told == [Severity.WARNING, Severity.CRITICAL, None, None]


def test_dancing_around_a_threshold_is_one_finding(saturation: Saturation) -> None:
    """A pool that is over and under its threshold in turn raises one finding, even over many minutes."""
    told = [saturation.observe(0.85 if n % 2 else 0.2, n * 10.0) for n in range(200)]
    assert [severity for severity in told if severity] == [Severity.WARNING]


def test_after_a_calm_while_it_counts_anew(saturation: Saturation) -> None:
    """Well below for 30 s without a break, and the next passing is a finding again."""
    assert saturation.observe(0.9, 0.0) is Severity.WARNING
    assert saturation.observe(0.7, 1.0) is None
    assert saturation.observe(0.7, 1.0 + CALM) is None
    assert saturation.observe(0.9, 2.0 + CALM) is Severity.WARNING


@pytest.mark.parametrize(
    ("utilization", "seconds"), [(0.71, CALM * 3), (0.7, CALM - 0.1)], ids=["not well below", "not for long enough"]
)
def test_a_short_or_shallow_calm_does_not_count(saturation: Saturation, utilization: float, seconds: float) -> None:
    saturation.observe(0.9, 0.0)
    saturation.observe(utilization, 1.0)
    saturation.observe(utilization, 1.0 + seconds)
    assert saturation.observe(0.9, 2.0 + seconds) is None


def test_a_calm_that_is_interrupted_starts_again(saturation: Saturation) -> None:
    """The 30 s are one stretch: a moment over the lower bound puts the clock back."""
    saturation.observe(0.9, 0.0)
    for now, utilization in ((1.0, 0.1), (20.0, 0.75), (21.0, 0.1), (50.0, 0.1)):
        saturation.observe(utilization, now)
    assert saturation.observe(0.9, 50.5) is None


def test_from_critical_it_calms_down_to_what_it_is(saturation: Saturation) -> None:
    """A pool that stays at 84 % after a critical finding is at warning level: no second warning, a second critical."""
    saturation.observe(1.0, 0.0)
    saturation.observe(0.84, 1.0)
    saturation.observe(0.84, 1.0 + CALM)
    assert saturation.level is Severity.WARNING
    assert saturation.observe(0.84, 2.0 + CALM) is None
    assert saturation.observe(1.0, 3.0 + CALM) is Severity.CRITICAL


def test_a_threshold_lower_than_the_hysteresis_can_calm_down() -> None:
    """With a warning from 5 % on, an empty pool is calm."""
    saturation = Saturation(Settings(pool_warning=0.05))
    saturation.observe(0.1, 0.0)
    saturation.observe(0.0, 1.0)
    saturation.observe(0.0, 1.0 + CALM)
    assert saturation.observe(0.1, 2.0 + CALM) is Severity.WARNING
