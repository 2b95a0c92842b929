"""Curvature of the distance along its error, compared with differences of distances of weighted images, computed with SciPy."""

import numpy as np
import pytest
import scipy.linalg

from frechet.distances import error_curvature
from frechet.distances.error_curvature import WeightedRows, curvature_along_error
from frechet.distances.gaussian import Gaussian
from frechet.distances.transport import influence_function, optimal_coupling

D = 12


def draw(n, seed):
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((D, D)) / D**0.5
    return random.standard_t(8, (n, D)) @ mixing + 0.2 * seed


def fit(rows, weights):
    mean = weights @ rows
    return mean, (rows - mean).T @ ((rows - mean) * weights[:, None])


def distance(one, other):
    (mean, covariance), (other_mean, other_covariance) = one, other
    root = np.trace(scipy.linalg.sqrtm(covariance @ other_covariance).real)
    return ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * root


def prepare(n, m, paired=False):
    """Return rows, equal weights, Gaussians, coupling and influence of two samples, which are much alike if they are paired."""
    x, y = draw(n, 0), draw(m, 1)
    y = x + 0.2 * y if paired else y
    weights = np.full(n, 1 / n), np.full(m, 1 / m)
    p, q = (Gaussian(mean, covariance=c) for mean, c in (fit(x, weights[0]), fit(y, weights[1])))
    coupling = optimal_coupling(p, q)
    psi = influence_function(x, p, q, coupling).total, influence_function(y, q, p, coupling.swap()).total
    return (x, y), weights, (p, q), coupling, psi


def difference_quotient(rows, weights, directions, slope):
    """Return half the second derivative over the squared slope, and check the slope."""

    def at(step):
        moved = [fit(x, w + step * k) for x, w, k in zip(rows, weights, directions, strict=True)]
        return distance(*moved)

    step = 0.5
    assert (at(step) - at(-step)) / (2 * step) == pytest.approx(slope, rel=1e-3)
    return (at(step) + at(-step) - 2 * at(0.0)) / (2 * step**2) / slope**2


@pytest.mark.parametrize("sampled", [(True, True), (True, False), (False, True)])
def test_independent_images(sampled):
    rows, weights, gaussians, coupling, psi = prepare(300, 200)
    directions = [
        each / len(each) ** 2 * (1 if is_sampled else 0) for each, is_sampled in zip(psi, sampled, strict=True)
    ]
    slope = sum(each @ k for each, k in zip(psi, directions, strict=True))
    samples = [
        WeightedRows(x, each, each, len(x)) if is_sampled else None
        for x, each, is_sampled in zip(rows, psi, sampled, strict=True)
    ]
    expected = difference_quotient(rows, weights, directions, slope)
    assert curvature_along_error(*gaussians, coupling, *samples) == pytest.approx(expected, rel=1e-3)


def test_pairs_change_their_weights_together():
    rows, weights, gaussians, coupling, psi = prepare(300, 300, paired=True)
    total = psi[0] + psi[1]
    direction = total / 300**2
    expected = difference_quotient(rows, weights, [direction, direction], total @ direction)
    samples = [WeightedRows(x, total / 2, total, 300) for x in rows]
    assert curvature_along_error(*gaussians, coupling, *samples) == pytest.approx(expected, rel=1e-3)
    independent = [WeightedRows(x, each, each, 300) for x, each in zip(rows, psi, strict=True)]
    assert curvature_along_error(*gaussians, coupling, *independent) != pytest.approx(expected, rel=0.1)


def test_images_of_a_cluster_change_their_weights_together():
    rows, weights, gaussians, coupling, psi = prepare(300, 200)
    totals = np.repeat(psi[0].reshape(-1, 3).sum(axis=1), 3)
    directions = [totals / 300**2, np.zeros(200)]
    expected = difference_quotient(rows, weights, directions, psi[0] @ directions[0])
    found = curvature_along_error(*gaussians, coupling, WeightedRows(rows[0], psi[0], totals, 300), None)
    assert found == pytest.approx(expected, rel=1e-3)


def test_copies_as_one_cluster_have_the_curvature_of_the_originals():
    rows, _, gaussians, coupling, psi = prepare(300, 200)
    originals = curvature_along_error(*gaussians, coupling, WeightedRows(rows[0], psi[0], psi[0], 300), None)
    copies, own = np.repeat(rows[0], 3, axis=0), np.repeat(psi[0], 3)
    found = curvature_along_error(*gaussians, coupling, WeightedRows(copies, own, 3 * own, 900), None)
    assert found == pytest.approx(originals, rel=1e-4)


def test_clusters_of_different_sizes_change_the_number_of_images():
    """The weights are divided by their sum. Large clusters are nearer to the other distribution here, small ones further away."""
    rows, weights, gaussians, coupling, psi = prepare(300, 200)
    members = np.repeat(np.arange(75), [1, 2, 9] * 25)
    order = np.argsort(-psi[0])  # the first images have the largest influence
    sizes = np.bincount(members)
    by_size = np.argsort(sizes[members], kind="stable")
    units = np.empty(300, int)
    units[order] = members[by_size]
    totals = np.bincount(units, weights=psi[0])[units]
    direction = totals / 300**2
    assert abs(direction.sum()) > 0.1 * direction.std() * 300

    def at(step):
        moved = weights[0] + step * direction
        return distance(fit(rows[0], moved / moved.sum()), fit(rows[1], weights[1]))

    step, slope = 1e-3, psi[0] @ direction
    assert (at(step) - at(-step)) / (2 * step) == pytest.approx(slope, rel=1e-4)
    expected = (at(step) + at(-step) - 2 * at(0.0)) / (2 * step**2) / slope**2
    found = curvature_along_error(*gaussians, coupling, WeightedRows(rows[0], psi[0], totals, 300), None)
    assert found == pytest.approx(max(0.0, expected), rel=1e-3)


def test_it_does_not_depend_on_the_number_of_images():
    rows, _, gaussians, coupling, psi = prepare(300, 200)
    sample = WeightedRows(rows[0], psi[0], psi[0], 300)
    found = curvature_along_error(*gaussians, coupling, sample, None)
    copies = WeightedRows(*(np.concatenate([each, each]) for each in sample[:3]), n=600)
    assert curvature_along_error(*gaussians, coupling, copies, None) == pytest.approx(found)


def test_few_rows_per_dimension_do_not_make_it_larger(monkeypatch):
    """The squares of the changes of two rows per dimension alone are three times as large as everything else."""
    rows, _, gaussians, coupling, psi = prepare(3000, 2000)
    expected = curvature_along_error(
        *gaussians, coupling, *(WeightedRows(x, each, each, len(x)) for x, each in zip(rows, psi, strict=True))
    )
    monkeypatch.setattr(error_curvature, "MAX_ROWS", 2 * D)
    random, found, of_all = np.random.default_rng(0), [], []
    for _ in range(200):
        samples = [draw_rows(random, x, each, 2 * D) for x, each in zip(rows, psi, strict=True)]
        found.append(curvature_along_error(*gaussians, coupling, *samples))
        as_if_all = [each._replace(n=2 * D) for each in samples]
        of_all.append(curvature_along_error(*gaussians, coupling, *as_if_all))
    assert np.mean(found) == pytest.approx(expected, rel=0.2)
    assert np.mean(of_all) > 3 * expected
    assert min(found) == 0  # not less


def draw_rows(random, rows, psi, count):
    chosen = random.permutation(len(rows))[:count]
    return WeightedRows(rows[chosen], psi[chosen], psi[chosen], len(rows))


def test_only_one_input_may_be_represented_by_a_sample_of_its_rows(monkeypatch):
    rows, _, gaussians, coupling, psi = prepare(900, 200)
    monkeypatch.setattr(error_curvature, "MAX_ROWS", 1000)
    reference = WeightedRows(rows[1], psi[1], psi[1], 200)
    expected = curvature_along_error(*gaussians, coupling, WeightedRows(rows[0], psi[0], psi[0], 900), reference)
    random = np.random.default_rng(0)
    found = [
        curvature_along_error(*gaussians, coupling, draw_rows(random, rows[0], psi[0], 300), reference)
        for _ in range(50)
    ]
    assert np.mean(found) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("scale", [1e-12, 1e-5, 1e5, 1e11])
def test_the_units_of_the_features_do_not_matter(scale):
    rows, _, (p, q), coupling, psi = prepare(300, 200)
    samples = [WeightedRows(x, each, each, len(x)) for x, each in zip(rows, psi, strict=True)]
    expected = curvature_along_error(p, q, coupling, *samples)
    p, q = (Gaussian(each.mean * scale, covariance=each.covariance * scale**2) for each in (p, q))
    samples = [
        WeightedRows(x * scale, each * scale**2, each * scale**2, len(x)) for x, each in zip(rows, psi, strict=True)
    ]
    found = curvature_along_error(p, q, optimal_coupling(p, q), *samples)
    assert found * scale**2 == pytest.approx(expected, rel=1e-5)


def test_it_is_that_of_a_parabola_if_only_the_mean_changes():
    """d² = μ² + (σ - 1)² for one feature that is ±1 around 3: its variance is constant to first order, and d² grows like μ²."""
    x = 3 + np.tile([1.0, -1.0], 50)[:, None]
    mean, covariance = fit(x, np.full(100, 0.01))
    p, q = Gaussian(mean, covariance=covariance), Gaussian(np.zeros(1), covariance=np.eye(1))
    coupling = optimal_coupling(p, q)
    psi = influence_function(x, p, q, coupling).total
    found = curvature_along_error(p, q, coupling, WeightedRows(x, psi, psi, 100), None)
    assert found == pytest.approx(1 / (4 * 9), rel=1e-6)


def test_identical_distributions_have_none():
    x = draw(100, 0)
    p = Gaussian(*fit(x, np.full(100, 0.01))[:1], covariance=fit(x, np.full(100, 0.01))[1])
    zeros = np.zeros(100)
    assert curvature_along_error(p, p, optimal_coupling(p, p), WeightedRows(x, zeros, zeros, 100), None) == 0.0
    assert curvature_along_error(p, p, optimal_coupling(p, p), None, None) == 0.0
