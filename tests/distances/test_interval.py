"""The interval: that it covers the truth, against simulations whose true distance is known in closed form."""

import numpy as np
import pytest
import scipy.linalg

from frechet.distances import permutation_test as permutation_module
from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import (
    IntervalInput,
    _analytic_bias,
    _sampling_variance,
    confidence_interval,
    explain_unavailable_interval,
)
from frechet.distances.permutation_test import permutation_test
from frechet.distances.transport import influence_function, optimal_coupling

D = 16
ONE = np.linspace(0.3, 1.5, D)
OTHER = np.linspace(0.5, 1.2, D)
SHIFT = np.full(D, 0.3)
TRUTH = float((SHIFT**2).sum() + ((ONE - OTHER) ** 2).sum())  # diagonal Gaussians


def draw(seed, n, m):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, D)) * ONE, random.standard_normal((m, D)) * OTHER + SHIFT


def side(x, *, n=True, rows=True):
    gaussian = Gaussian(x.mean(0), covariance=np.cov(x, rowvar=False))
    return IntervalInput(gaussian, len(x) if n else None, x.astype(np.float32) if rows else None)


def evaluations(n, m, count, **known):
    for seed in range(count):
        x, y = draw(seed, n, m)
        p, q = side(x), side(y, **known)
        yield frechet_terms(p.gaussian, q.gaussian).total, confidence_interval(p, q, seed=seed)


@pytest.mark.parametrize(
    ("n", "m", "known", "method"),
    [
        (2 * D, 2 * D, {}, "jackknife of 10 groups"),
        (5 * D, 4 * D, {}, "jackknife of 10 groups"),
        (20 * D, 10 * D, {}, "analytic"),
        (20 * D, 10 * D, {"rows": False}, "analytic (generated), analytic, as if Gaussian (reference)"),
        (4 * D, 20 * D, {}, "jackknife of 10 groups (generated), analytic (reference)"),
    ],
)
def test_it_covers_the_truth_and_removes_the_bias(n, m, known, method):
    found = list(evaluations(n, m, 120, **known))
    plain = np.array([value for value, _ in found])
    corrected_value = np.array([each.corrected_value for _, each in found])
    covered = np.mean([each.low <= TRUTH <= each.high for _, each in found])
    assert covered >= 0.9  # 95 % expected; 120 trials are within 5 of it
    assert abs(corrected_value.mean() - TRUTH) <= 0.15 * abs(plain.mean() - TRUTH)
    assert np.mean([each.standard_error for _, each in found]) == pytest.approx(corrected_value.std(), rel=0.25)
    assert found[0][1].method.startswith(method)


def test_a_reference_of_unknown_size_is_left_out_of_the_error():
    x, y = draw(0, 10 * D, 10 * D)
    known, unknown = confidence_interval(side(x), side(y)), confidence_interval(side(x), side(y, n=False, rows=False))
    assert unknown.variance_components[1] == 0 < known.variance_components[1]
    assert "sampling left out (reference)" in unknown.method
    assert unknown.corrected_value > known.corrected_value  # the reference's share of the bias is still in it


def test_the_gaussian_formulas_are_what_many_gaussian_rows_give():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60_000, D)) * ONE, random.standard_normal((60_000, D)) * OTHER + SHIFT
    p, q = side(x), side(y)
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    bare = IntervalInput(p.gaussian, p.n)
    assert _analytic_bias(bare, coupling) == pytest.approx(_analytic_bias(p, coupling), rel=0.01)
    psi = influence_function(x, p.gaussian, q.gaussian, coupling).total
    assert _sampling_variance(bare, q.gaussian, coupling, None) == pytest.approx(
        _sampling_variance(p, q.gaussian, coupling, psi), rel=0.03
    )


def test_sorted_folders_are_no_trouble():
    """Groups are drawn, not cut: contiguous ones would each be a class of its own."""
    random = np.random.default_rng(3)
    classes = random.standard_normal((4, D))
    covered = 0
    for seed in range(60):
        draws = np.random.default_rng(seed)
        x = np.repeat(classes, D, axis=0) + draws.standard_normal((4 * D, D)) * ONE
        y = np.repeat(classes, D, axis=0) + draws.standard_normal((4 * D, D)) * OTHER
        among = np.cov(classes, rowvar=False, bias=True)
        truth = frechet_terms(
            Gaussian(np.zeros(D), covariance=among + np.diag(ONE**2)),
            Gaussian(np.zeros(D), covariance=among + np.diag(OTHER**2)),
        ).total
        found = confidence_interval(side(x), side(y), seed=seed)
        covered += found.low <= truth <= found.high
    assert covered / 60 >= 0.88


def test_equal_distributions_are_not_told_apart_and_others_are():
    random = np.random.default_rng(0)
    equal = confidence_interval(side(random.standard_normal((6 * D, D))), side(random.standard_normal((6 * D, D))))
    assert equal.permutation_p_value is not None
    assert equal.permutation_p_value > 0.05
    assert equal.low == 0 < equal.high
    assert "permutations" in equal.method
    x, y = draw(0, 6 * D, 6 * D)
    assert confidence_interval(side(x), side(y)).permutation_p_value is None  # far from zero: there is no question


def test_the_same_seed_gives_the_same_interval_and_the_order_of_images_does_not_matter_much():
    x, y = draw(0, 4 * D, 4 * D)
    one, same, other = (
        confidence_interval(side(x), side(y)),
        confidence_interval(side(x), side(y)),
        confidence_interval(side(x), side(y), seed=1),
    )
    assert one == same
    assert one.corrected_value != other.corrected_value
    assert one.corrected_value == pytest.approx(other.corrected_value, abs=one.standard_error)


def test_more_images_halve_it_as_foretold():
    x, y = draw(0, 30 * D, 30 * D)
    found = confidence_interval(side(x), side(y))
    n, m = found.n_to_halve_interval(30 * D, 30 * D)
    assert (n, m) == (2000, 2000)  # 4 * 480, to two figures
    again = confidence_interval(*(side(z) for z in draw(1, n, m)))
    assert again.standard_error == pytest.approx(found.standard_error / 2, rel=0.15)


def test_a_large_reference_leaves_the_work_to_the_generated_side():
    x, y = draw(0, 20 * D, 400 * D)
    n, m = confidence_interval(side(x), side(y)).n_to_halve_interval(20 * D, 400 * D)
    assert m == 400 * D
    assert 4 * 20 * D < n < 8 * 20 * D


@pytest.mark.parametrize(("n", "m", "more"), [(8, 8, (16, 16)), (8, 12, (16, 24)), (4, 20, (10, 20))])
def test_an_interval_of_sides_not_told_apart_is_halved_by_twice_the_images(n, m, more):
    """d² of equal distributions is a degenerate statistic: its width goes with 1/n + 1/m, not with its root."""

    def equal(seed, n, m):
        random = np.random.default_rng(seed)
        return confidence_interval(
            side(random.standard_normal((n * D, D))), side(random.standard_normal((m * D, D))), seed=seed
        )

    found = [equal(seed, n, m) for seed in range(20)]
    untold = [one for one in found if one.permutation_p_value is not None and one.permutation_p_value > 0.05]
    assert untold
    for one in untold:
        assert one.n_to_halve_interval(n * D, m * D) == pytest.approx(
            (more[0] * D, more[1] * D), rel=0.04
        )  # two figures
    again = [equal(seed, *more) for seed in range(20, 40)]
    assert np.mean([one.high for one in again]) == pytest.approx(np.mean([one.high for one in found]) / 2, rel=0.35)


@pytest.mark.parametrize("known", [{}, {"rows": False}])
def test_a_side_without_any_spread_has_an_interval(known):
    """d² = |μ₁ - μ₂|² + tr Σ of the other side, whose sampling is all that errs; of two such sides it errs not at all."""
    x, still = draw(0, 20 * D, 2)[0], np.full((12 * D, D), 0.25)
    moving, fixed = side(x, **known), side(still, **known)
    plain = ((x.mean(0) - 0.25) ** 2).sum() + moving.gaussian.trace
    for p, q in ((moving, fixed), (fixed, moving)):
        found = confidence_interval(p, q)
        assert frechet_terms(p.gaussian, q.gaussian).total == pytest.approx(plain)
        assert found.corrected_value == pytest.approx(plain - moving.gaussian.trace / moving.n)  # of the mean
        assert found.low <= (ONE**2).sum() + D * 0.25**2 <= found.high
    nothing = confidence_interval(fixed, side(still + 1, **known))
    assert (nothing.corrected_value, nothing.standard_error) == (pytest.approx(D), 0)


def test_an_image_that_outweighs_all_others_is_left_out_like_any_other():
    """Of the others' covariance its removal leaves nothing but rounding, which is no damage."""
    x, y = draw(0, 4 * D, 4 * D)
    x[3] = 1e10
    found = confidence_interval(side(x), side(y))
    assert np.isfinite([found.corrected_value, found.standard_error, found.low, found.high]).all()


def test_too_few_images_get_a_reason():
    pair = IntervalInput(Gaussian(np.zeros(1), covariance=np.ones((1, 1))), 2, np.array([[-1.0], [1.0]], np.float32))
    assert "3, not 2" in explain_unavailable_interval(pair, pair)  # leaving one of two out leaves no variance
    x, y = draw(0, D, 10 * D)
    assert "24, not 16" in explain_unavailable_interval(side(x), side(y))
    assert "neither" in explain_unavailable_interval(side(x, n=False), side(y, n=False))
    assert explain_unavailable_interval(side(y), side(y)) is None


def test_permuted_sides_are_as_far_apart_as_random_parts_of_one_set():
    random = np.random.default_rng(3)
    x, y = (random.standard_normal((n, D)) * np.arange(1, D + 1) ** -0.5 for n in (2 * D, 3 * D))
    found = permutation_test(x, y)
    pooled, exact = np.concatenate([x, y]), []
    for _ in range(200):  # independently: SciPy's square root of fresh random parts
        order = random.permutation(len(pooled))
        a, b = pooled[order[: 3 * D]], pooled[order[3 * D :]]
        first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        root = np.trace(scipy.linalg.sqrtm(first @ second).real)
        exact.append(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root)
    assert found.mean == pytest.approx(np.mean(exact), rel=0.03)
    assert found.std == pytest.approx(np.std(exact), rel=0.4)  # of 39 draws: 11 % of noise of its own


def test_the_statistic_of_permutations_is_the_distance_to_second_order():
    random = np.random.default_rng(6)
    rows = random.standard_normal((90, 5)) @ random.standard_normal((5, 5)) + 3
    chosen = random.permutation(90)[:25]
    one, other = rows[chosen], np.delete(rows, chosen, axis=0)
    values, axes = np.linalg.eigh(np.cov(rows, rowvar=False))
    delta = axes.T @ (np.cov(one, rowvar=False) - np.cov(other, rowvar=False)) @ axes
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + (delta**2 / (values[:, None] + values)).sum() / 2
    assert permutation_module._pool_features(rows).second_order_distance(chosen) == pytest.approx(expected, rel=1e-5)


def test_one_distribution_is_called_two_in_one_run_of_twenty():
    random = np.random.default_rng(4)
    values = [permutation_test(*random.standard_normal((2, 40, 3))).p_value for _ in range(300)]
    assert 0.02 <= np.mean(np.asarray(values) <= 0.05) <= 0.09  # 0.05 within 2.4 and 3.2 standard deviations
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("what", ["mean", "covariance"])
def test_two_distributions_are_called_two(what):
    random = np.random.default_rng(5)
    x, y = random.standard_normal((2, 300, 6))
    y = y + 0.3 if what == "mean" else y * 1.3
    assert permutation_test(x, y).p_value == 1 / 40
    flat = np.concatenate([x, np.ones((300, 1))], axis=1)  # a feature without spread
    assert permutation_test(flat, np.concatenate([y, np.ones((300, 1))], axis=1)).p_value == 1 / 40
