"""The permutation test by groups: its statistic, its size under equality and its power."""

import numpy as np
import pytest

from frechet.distances.gaussian import Gaussian
from frechet.distances.permutation_test import compute_gram_matrix, enumerate_signs, principal_axes, swap_test
from frechet.statistics.group_moments import GroupMoments
from frechet.statistics.moments import RunningMoments


def fit(x):
    return Gaussian(x.mean(0), covariance=np.cov(x, rowvar=False))


def random_groups(x, seed=0):
    return GroupMoments.from_features(x.astype(np.float32), np.arange(len(x)), seed)


def test_every_arrangement_is_enumerated_once():
    for count in (2, 5, 10):
        signs = enumerate_signs(count)
        assert signs.shape == (2 ** (count - 1), count)
        assert len(np.unique(signs, axis=0)) == 2 ** (count - 1)
        assert set(signs.ravel().tolist()) == {-1.0, 1.0}
        assert (signs[:, 0] == 1).all()
        assert (signs[0] == 1).all()


def test_the_sum_of_all_products_is_the_distance_to_second_order():
    """|δμ|² + ½ Σ Δᵢⱼ² / (λᵢ + λⱼ) in the axes of the pooled images, from all images at once."""
    random = np.random.default_rng(6)
    mix = random.standard_normal((5, 5))
    one, other = random.standard_normal((60, 5)) @ mix + 3, random.standard_normal((30, 5)) @ mix * 1.2 + 3.1
    groups = [
        GroupMoments.from_moments([RunningMoments.from_features(x[g::6]) for g in range(6)]) for x in (one, other)
    ]
    found = compute_gram_matrix(fit(one), groups[0], fit(other), groups[1])
    difference = one.mean(0) - other.mean(0)
    pooled = (2 * np.cov(one, rowvar=False) + np.cov(other, rowvar=False)) / 3 + 2 / 9 * np.outer(
        difference, difference
    )
    center = (one.sum(0) + other.sum(0)) / 90
    values, axes = np.linalg.eigh(pooled)
    delta = axes.T @ ((one - center).T @ (one - center) / 60 - (other - center).T @ (other - center) / 30) @ axes
    expected = (difference**2).sum() + (delta**2 / (values[:, None] + values)).sum() / 2
    assert found.sum() / 6**2 == pytest.approx(expected, rel=1e-4)


def test_the_leading_axes_are_those_of_an_eigendecomposition():
    random = np.random.default_rng(1)
    covariance = np.cov(random.standard_normal((400, 40)) * 0.7 ** np.arange(40), rowvar=False)
    values, axes = principal_axes(covariance, 8)
    expected = np.linalg.eigvalsh(covariance)[-8:]
    np.testing.assert_allclose(values, expected, rtol=0.05)  # three iterations only
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 180), (60, None)], ids=["equal", "unequal", "fixed"])
def test_the_test_has_its_nominal_size(n, m):
    """Against a fixed distribution it is only approximate; 300 draws are within 4 % of 5 %."""
    random, values = np.random.default_rng(4), []
    truth = Gaussian(np.zeros(3), covariance=np.eye(3))
    for seed in range(300):
        x = random.standard_normal((n, 3))
        y = random.standard_normal((m, 3)) if m else None
        q, q_groups = (truth, None) if y is None else (fit(y), random_groups(y, seed))
        values.append(swap_test(fit(x), random_groups(x, seed), q, q_groups))
    assert 0.02 <= np.mean(np.array(values) <= 0.05) <= 0.09
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("what", ["mean", "covariance"])
@pytest.mark.parametrize("m", [300, 900, None])
def test_different_distributions_are_detected(what, m):
    """The smallest p-value is that of the one arrangement of 512 in which no group changes places."""
    random = np.random.default_rng(5)
    for seed in range(10):
        x, y = random.standard_normal((300, 6)), random.standard_normal((m or 300, 6))
        y = y + 0.3 if what == "mean" else y * 1.3
        x, y = (np.hstack([z, np.ones((len(z), 1))]) for z in (x, y))  # a constant feature
        p_value = swap_test(fit(x), random_groups(x, seed), fit(y), random_groups(y, seed) if m else None)
        assert p_value <= 5 / 512


def test_either_input_may_be_the_fixed_distribution():
    random = np.random.default_rng(7)
    x, truth = random.standard_normal((100, 4)) + 0.1, Gaussian(np.zeros(4), covariance=np.eye(4))
    groups = random_groups(x)
    assert swap_test(fit(x), groups, truth, None) == swap_test(truth, None, fit(x), groups)


def test_identical_inputs_have_p_value_1():
    x = np.random.default_rng(0).standard_normal((80, 5))
    groups = random_groups(x)
    assert swap_test(fit(x), groups, fit(x), groups) == 1


def test_an_empty_group_is_left_out():
    x, y = np.random.default_rng(0).standard_normal((2, 80, 3))
    groups = [GroupMoments.from_moments([RunningMoments.from_features(z[g::8]) for g in range(8)]) for z in (x, y)]
    with_empty = [
        GroupMoments(
            np.append(each.n, 0),
            np.vstack([each.mean, np.zeros((1, 3))]),
            np.vstack([each.scatter, np.zeros((1, 6), np.float32)]),
        )
        for each in groups
    ]
    expected = compute_gram_matrix(fit(x), groups[0], fit(y), groups[1])
    assert expected.shape == (8, 8)
    np.testing.assert_array_equal(compute_gram_matrix(fit(x), with_empty[0], fit(y), with_empty[1]), expected)
