"""One number for a pool: its properties, on a grid of all vitals, and some values of the documented formula."""

import itertools
from dataclasses import fields, replace

import pytest

from querywatch.pool.health import Vitals, health

VITALS = [field.name for field in fields(Vitals)]
STEPS = (0.0, 0.1, 0.5, 0.85, 1.0)
#: Also what no pool should report: shares out of bounds come from counts that two threads have raced for.
GRID = [Vitals(*values) for values in itertools.product(STEPS, repeat=len(VITALS))]
WARNINGS = (0.05, 0.8, 1.0)


@pytest.mark.parametrize("warning", WARNINGS)
def test_it_lies_between_0_and_1(warning: float) -> None:
    assert all(0 <= health(vitals, warning) <= 1 for vitals in GRID)


@pytest.mark.parametrize("name", VITALS)
@pytest.mark.parametrize("warning", WARNINGS)
def test_it_never_rises_when_something_gets_worse(name: str, warning: float) -> None:
    """Monotone in each vital, whatever the others are."""
    for vitals in GRID:
        for worse in (step for step in STEPS if step > getattr(vitals, name)):
            assert health(replace(vitals, **{name: worse}), warning) <= health(vitals, warning)


@pytest.mark.parametrize("name", VITALS)
def test_each_trouble_alone_lowers_it(name: str) -> None:
    """No vital is without effect on a pool that is well otherwise."""
    assert health(replace(Vitals(), **{name: 0.9}), 0.8) < 1


@pytest.mark.parametrize("name", VITALS)
@pytest.mark.parametrize(("value", "as_good_as"), [(-3.0, 0.0), (7.0, 1.0)])
def test_values_out_of_bounds_count_as_the_bound(name: str, value: float, as_good_as: float) -> None:
    out, bound = (health(replace(Vitals(), **{name: number}), 0.8) for number in (value, as_good_as))
    assert out == bound


@pytest.mark.parametrize(
    ("vitals", "expected"),
    [
        (Vitals(), 1.0),
        (Vitals(utilization=0.8), 1.0),
        (Vitals(utilization=0.9), 0.75),
        (Vitals(utilization=1.0), 0.5),
        (Vitals(utilization=1.0, wait_share=0.5), 0.25),
        (Vitals(timeout_share=0.1, failure_share=0.5, leak_share=0.2), 0.9 * 0.5 * 0.8),
        (Vitals(failure_share=1.0), 0.0),
    ],
)
def test_the_documented_formula(vitals: Vitals, expected: float) -> None:
    """The product (1 - u/2) (1 - w) (1 - t) (1 - f) (1 - l), as docs/pools.md has it."""
    assert health(vitals, 0.8) == pytest.approx(expected)
