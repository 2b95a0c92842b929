"""Gradient and influence function, compared with central differences and with leaving images out."""

import numpy as np
import pytest

import frechet
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import (
    feature_gradient,
    influence_function,
    leading_directions,
    optimal_coupling,
    squared_frechet_distance,
)


def draw(seed, n, d, scale=1.0, shift=0.0):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)) * np.linspace(0.5, 2, d) * scale + shift


def stored(x):
    return Gaussian(x.mean(0), covariance=np.cov(x, rowvar=False))


def with_duplicates(x):
    return np.concatenate([x, x[: len(x) // 2]])


def distance(x, q):
    return frechet_terms(Gaussian.from_features(x), q).total


def central_differences(x, q, step=1e-4):
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            ends.append(distance(moved, q))
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found


SHAPES = {
    "few against few": (draw(1, 5, 9), Gaussian.from_features(draw(2, 6, 9, 1.3))),
    "few against many": (draw(1, 5, 9), stored(draw(2, 60, 9, 1.3, 0.2))),
    "few against many with a factor": (draw(1, 5, 9), stored(draw(2, 60, 9, 1.3, 0.2)).with_factor()),
    "many against few": (draw(1, 40, 9), Gaussian.from_features(draw(2, 6, 9, 1.3))),
    "many against many": (draw(1, 40, 9), stored(draw(2, 60, 9, 1.3, 0.2))),
    "many against many with a factor": (draw(1, 40, 9), stored(draw(2, 60, 9, 1.3, 0.2)).with_factor()),
    "many against a stored singular one": (draw(1, 40, 9), stored(draw(2, 6, 9, 1.3))),
    "few against a stored singular one": (draw(1, 5, 9), stored(draw(2, 7, 9, 1.3))),
    "exactly as many as dimensions": (draw(1, 9, 9), stored(draw(2, 60, 9))),
    "one more than dimensions": (draw(1, 10, 9), stored(draw(2, 60, 9))),
    "two images": (draw(1, 2, 9), stored(draw(2, 60, 9))),
}


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("case", SHAPES)
def test_the_gradient_agrees_with_central_differences(case):
    x, q = SHAPES[case]
    p = Gaussian.from_features(x)
    coupling = optimal_coupling(p, q)
    expected = central_differences(x, q)
    assert np.abs(feature_gradient(x, q.mean, coupling.onto_q) - expected).max() <= 1e-6 * np.abs(expected).max()
    assert float(squared_frechet_distance(p, q, coupling)) == pytest.approx(distance(x, q), rel=1e-9)


@pytest.mark.parametrize(
    "q",
    [
        stored(draw(2, 60, 9, 1.3)),
        stored(draw(2, 60, 9, 1.3)).with_factor(),
        Gaussian.from_features(draw(2, 6, 9, 1.3)),
    ],
)
@pytest.mark.parametrize("n", [3, 12])
def test_duplicate_images_have_a_finite_symmetric_gradient(n, q):
    """The distance has a kink where two images are equal, but it is smooth if both move together."""
    x = with_duplicates(draw(1, n, 9))
    found = feature_gradient(x, q.mean, optimal_coupling(Gaussian.from_features(x), q).onto_q)
    step, direction = 1e-4, np.zeros_like(x)
    direction[0] = direction[n] = np.linspace(-1, 1, 9)  # the first image and its duplicate, together
    expected = (distance(x + step * direction, q) - distance(x - step * direction, q)) / (2 * step)
    assert (found * direction).sum() == pytest.approx(expected, rel=1e-5)
    assert np.allclose(found[0], found[n], rtol=0, atol=1e-6 * np.abs(found).max())


def test_the_gradient_of_constant_features_is_that_of_the_mean():
    x, y = draw(1, 30, 6), draw(2, 40, 6)
    x[:, 2] = y[:, 2] = 3.0
    gradient = feature_gradient(x, y.mean(0), optimal_coupling(Gaussian.from_features(x), stored(y)).onto_q)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[:, 2]).max() <= 1e-9


def test_the_transport_maps_transform_one_covariance_into_the_other():
    x, y = draw(1, 60, 7), draw(2, 80, 7, 1.5)
    for p in (stored(x), stored(x).with_factor()):
        q = stored(y)
        coupling = optimal_coupling(p, q)
        there, back = coupling.onto_q.T @ coupling.onto_q, coupling.onto_p.T @ coupling.onto_p
        np.testing.assert_allclose(there @ p.covariance @ there, q.covariance, atol=1e-10)
        np.testing.assert_allclose(back @ q.covariance @ back, p.covariance, atol=1e-10)


@pytest.mark.parametrize("changed", ["generated", "reference"])
def test_influence_predicts_the_change_when_an_image_is_left_out(changed):
    d = 8
    x, y = draw(1, 30 * d, d, 1.3), draw(2, 31 * d, d, 1.0, 0.1)
    p, q = stored(x), stored(y)
    coupling = optimal_coupling(p, q)
    if changed == "generated":
        psi = influence_function(x, p, q, coupling).total
        left = [frechet_terms(stored(np.delete(x, i, 0)), q).total for i in range(len(x))]
    else:
        psi = influence_function(y, q, p, coupling.swap()).total
        left = [frechet_terms(p, stored(np.delete(y, i, 0))).total for i in range(len(y))]
    change = np.array(left) - frechet_terms(p, q).total
    predicted = -psi / (len(psi) - 1)
    assert np.corrcoef(change, predicted)[0, 1] >= 0.99
    assert np.polyfit(predicted, change, 1)[0] == pytest.approx(1, abs=0.1)
    assert abs(psi.mean()) <= 1e-2 * psi.std()


def plain_distance(x, y):
    """The squared distance, by the singular values of the product of the centred rows."""
    one, other = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    shared = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + (one**2).sum() + (other**2).sum() - 2 * shared


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "d"), [(60, 80, 8), (10, 80, 24), (80, 10, 24), (12, 9, 24), (25, 80, 24), (3, 50, 8), (600, 700, 512)]
)
def test_changes_agree_with_leaving_images_out(n, m, d, monkeypatch):
    monkeypatch.setattr("frechet.distances.leave_one_out._BLOCK_ROWS", 7)
    x, y = draw(1, n, d, 1.3), draw(2, m, d, 1.0, 0.1)
    x[0] += 6
    x[1] = x[2]
    x[:, 3] = y[:, 3] = 5.0
    found = frechet.influence(x.astype(np.float32), y.astype(np.float32), features=True)
    x, y = (z.astype(np.float32).astype(np.float64) for z in (x, y))
    whole = plain_distance(x, y)
    few = range(n if d < 100 else 4)
    left = [plain_distance(np.delete(x, i, 0), y) - whole for i in few]
    np.testing.assert_allclose(found.change[list(few)], left, rtol=1e-5, atol=1e-7 * whole)
    gaps = [((np.delete(x, i, 0).mean(0) - y.mean(0)) ** 2).sum() for i in few]
    np.testing.assert_allclose(
        found.mean[list(few)], np.subtract(gaps, ((x.mean(0) - y.mean(0)) ** 2).sum()), rtol=1e-5, atol=1e-7 * whole
    )


@pytest.mark.parametrize("n", [5, 6, 7, 8])
@pytest.mark.parametrize("seed", [2, 3, 5])
def test_changes_are_accurate_if_the_smallest_roots_are_rounding_errors(n, seed):
    """Standard deviations from 1 to 1e-5 are squared twice, so that the transport map is wrong for the smallest of them."""
    random, scale = np.random.default_rng(seed), np.logspace(0, -5, 8)
    x, y = ((random.standard_normal((k, 8)) * scale).astype(np.float32) for k in (n, 30))
    found = frechet.influence(x, y, features=True).change
    x, y = x.astype(np.float64), y.astype(np.float64)
    left = np.array([plain_distance(np.delete(x, i, 0), y) for i in range(n)]) - plain_distance(x, y)
    assert np.abs(found - left).max() <= 2e-5 * np.abs(left).max()


def test_changes_are_finite_for_equal_images_and_for_two_images():
    y = draw(2, 40, 6)
    for x in (np.ones((5, 6)), draw(1, 2, 6)):
        assert np.isfinite(frechet.influence(x, y, features=True).change).all()
    x = np.ones((5, 6)) * y.mean(0)
    assert np.abs(frechet.influence(x, y, features=True).change).max() <= 1e-6


def test_the_leading_directions_are_those_of_the_largest_changes():
    """Axis-aligned Gaussians: coordinate i contributes shift² + (difference of the standard deviations)²."""
    scales, others, shift = np.array([1.0, 2.0, 0.5, 3.0]), np.array([1.5, 2.1, 0.5, 1.0]), np.zeros(4)
    p, q = Gaussian(shift, covariance=np.diag(scales**2)), Gaussian(shift, covariance=np.diag(others**2))
    leading = leading_directions(p, q, optimal_coupling(p, q), 3)
    np.testing.assert_allclose(leading.contributions, [4.0, 0.25, 0.01], rtol=1e-6)
    np.testing.assert_allclose(np.abs(leading.axes), np.eye(4)[[3, 0, 1]], atol=1e-6)
    d_squared = squared_frechet_distance(p, q, optimal_coupling(p, q))
    assert leading.contributions.sum() == pytest.approx(float(d_squared))
