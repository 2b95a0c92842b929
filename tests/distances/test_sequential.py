"""Intervals that hold at every look: critical values of published tables and of simulated random walks, and differences."""

import numpy as np
import pytest

from frechet.distances.sequential import (
    EstimateWithBounds,
    critical_value,
    difference_interval,
    plan_looks,
    student_quantile,
)


@pytest.mark.parametrize(
    ("num_looks", "alpha", "expected"),
    [(1, 0.05, 1.960), (2, 0.05, 2.178), (3, 0.05, 2.289), (5, 0.05, 2.413), (10, 0.05, 2.555), (5, 0.01, 2.986)],
)
def test_critical_values_are_those_of_pocock(num_looks, alpha, expected):
    """Jennison & Turnbull 2000, Group Sequential Methods, table 2.1: C_P(K, α) for equally spaced looks."""
    assert critical_value(range(1, num_looks + 1), alpha) == pytest.approx(expected, abs=6e-4)


def test_a_simulated_random_walk_leaves_the_bounds_with_probability_alpha():
    looks = plan_looks(50, 2000)
    steps = np.random.default_rng(0).standard_normal((40_000, len(looks))) * np.sqrt(np.diff(looks, prepend=0))
    z = np.cumsum(steps, axis=1) / np.sqrt(looks)
    crossed = (np.abs(z) > critical_value(looks, 0.05)).any(axis=1)
    assert crossed.mean() == pytest.approx(0.05, abs=3 * (0.05 * 0.95 / 40_000) ** 0.5)
    assert (np.abs(z) > 1.96).any(axis=1).mean() > 0.2  # what an interval for one look would do


@pytest.mark.parametrize(("first", "largest"), [(50, 50), (50, 54), (50, 60), (64, 50_000), (4096, 4097), (3, 1000)])
def test_looks_are_in_nearly_equal_ratios_up_to_the_largest(first, largest):
    looks = plan_looks(first, largest)
    assert looks[-1] == largest
    assert looks[0] == (first if len(looks) > 1 else largest)
    ratios = np.divide(looks[1:], looks[:-1])
    assert ((ratios > 1.09) & (ratios < 1.75)).all()


def test_the_error_of_a_difference_is_the_root_of_the_sum_of_squares():
    one, other = EstimateWithBounds(5.0, 2.0, 8.0), EstimateWithBounds(1.0, -3.0, 5.0)
    assert difference_interval(one, other) == pytest.approx((4.0, -1.0, 9.0))


def test_a_difference_uses_the_ends_that_matter_to_it():
    """Zou & Donner 2008, equation 4: L = d - √((θ₁ - l₁)² + (u₂ - θ₂)²)."""
    one, other = EstimateWithBounds(5.0, 4.0, 9.0), EstimateWithBounds(1.0, 0.0, 2.0)
    assert difference_interval(one, other) == pytest.approx((4.0, 4.0 - 2**0.5, 4.0 + 17**0.5))


def test_errors_in_common_cancel():
    one, other = EstimateWithBounds(5.0, 2.0, 8.0), EstimateWithBounds(1.0, -3.0, 5.0)
    assert difference_interval(one, other, scale=0.2) == pytest.approx((4.0, 3.0, 5.0))


@pytest.mark.parametrize(("z", "expected"), [(1.959964, 1.998341), (3.0, 3.123517), (4.0, 4.286748)])
def test_quantiles_are_those_of_student(z, expected):
    """SciPy 1.17: scipy.stats.t.isf(scipy.stats.norm.sf(z), 63)."""
    assert student_quantile(z, 63) == pytest.approx(expected, abs=2e-3)
