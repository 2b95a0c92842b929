"""Weights of images in a covariance, from simulations in which they are known."""

import numpy as np
import pytest

from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.image_weights import weight_skewness
from frechet.distances.interval import bias_shape, confidence_interval, estimate_distance
from frechet.distances.interval_input import IntervalInput
from frechet.statistics.group_moments import GroupMoments

# weights 0.5 and 3 with probabilities 0.8 and 0.2: E w = 1, E w² = 2, E w³ = 5.5
SQUARES, CUBES = 2.0, 5.5
EXPECTED = 1 + CUBES / SQUARES - SQUARES


def draw(random, n, d, weighted=True):
    """Return white Gaussian images, whose squared lengths have the weights above."""
    weights = np.where(random.random(n) < 0.2, 3.0, 0.5) if weighted else np.ones(n)
    return random.standard_normal((n, d)) * np.sqrt(weights)[:, None]


def fit(x):
    return Gaussian(x.mean(0), covariance=np.cov(x, rowvar=False))


def interval_input(x):
    groups = GroupMoments.from_features(x.astype(np.float32), np.arange(len(x)), 0)
    return IntervalInput(fit(x), n=len(x), groups=groups, rows=x.astype(np.float32))


@pytest.mark.parametrize("images_per_dimension", [2, 10])
def test_the_weights_of_images_are_found_in_any_coordinates(images_per_dimension):
    random, d = np.random.default_rng(0), 100
    x = draw(random, images_per_dimension * d, d) @ random.standard_normal((d, d)) + 5
    assert weight_skewness(interval_input(x)) == pytest.approx(EXPECTED, abs=0.15)


@pytest.mark.parametrize("d", [40, 100])
def test_gaussian_images_have_equal_weights(d):
    random = np.random.default_rng(1)
    found = [weight_skewness(interval_input(draw(random, 2 * d + 40, d, weighted=False))) for _ in range(5)]
    assert 1 <= np.mean(found) < 1.05


def test_constant_features_and_fixed_distributions_have_equal_weights():
    x = np.random.default_rng(2).standard_normal((60, 4))
    assert weight_skewness(IntervalInput(fit(x))) == 1
    assert weight_skewness(interval_input(np.ones((60, 4)))) == 1
    with_constant = interval_input(np.hstack([x, np.ones((60, 1))]))
    assert weight_skewness(with_constant) == pytest.approx(weight_skewness(interval_input(x)), abs=0.2)


def test_weights_make_the_second_order_of_the_bias():
    """F / d of two samples is twice the shape of the bias, and 2 / n for the means, with the effective number of images."""
    random, d, n = np.random.default_rng(3), 100, 500
    plain = [frechet_terms(*(fit(draw(random, n, d)) for _ in range(2))).total for _ in range(6)]
    gamma, skewness = SQUARES * d / n, CUBES / SQUARES**2
    found = np.mean(plain) / d - 2 / n
    assert found == pytest.approx(2 * bias_shape(gamma, gamma, skewness, skewness), rel=0.03)
    assert found < 0.95 * 2 * bias_shape(gamma, gamma)
    assert bias_shape(gamma, gamma, skewness, skewness) == pytest.approx(
        bias_shape(gamma / SQUARES, gamma / SQUARES, EXPECTED, EXPECTED) * SQUARES
    )


@pytest.mark.slow
def test_the_interval_extends_to_the_estimate_for_these_weights():
    """The distance of P and 1.1 P is 0.01 tr Σ. Without the weights, the correction of the bias is too small."""
    random, d, n, value = np.random.default_rng(4), 100, 300, 1.0
    found = [estimate_distance(*(interval_input(s * draw(random, n, d)) for s in (1.0, 1.1))) for _ in range(8)]
    corrected = np.mean([each.corrected_value for each in found])
    with_weights = np.mean([each.other_values[-1] for each in found])
    assert corrected - value > 1
    assert abs(with_weights - value) < 0.4 * (corrected - value)
    for each in found:
        below = each.errors.quantiles()[0] * each.errors.standard_error
        assert each.interval().low == pytest.approx(max(0, each.other_values[-1] - below), abs=1e-6)


def test_images_of_equal_weight_do_not_move_the_ends_of_the_interval():
    random, d, n = np.random.default_rng(5), 60, 240
    p, q = (interval_input(s * draw(random, n, d, weighted=False)) for s in (1.0, 1.5))
    assert weight_skewness(p) - 1 < 0.02
    found = confidence_interval(p, q)
    assert found.low == pytest.approx(found.corrected_value - 1.96 * found.standard_error, rel=0.03)
