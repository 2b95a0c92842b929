"""Coverage of the confidence interval, in simulations whose population distance has a closed form."""

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
POPULATION_VALUE = float((SHIFT**2).sum() + ((ONE - OTHER) ** 2).sum())  # diagonal Gaussians


def draw(seed, n, m):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, D)) * ONE, random.standard_normal((m, D)) * OTHER + SHIFT


def interval_input(x, *, n=True, rows=True):
    gaussian = Gaussian(x.mean(0), covariance=np.cov(x, rowvar=False))
    return IntervalInput(gaussian, len(x) if n else None, x.astype(np.float32) if rows else None)


def evaluations(n, m, count, **known):
    for seed in range(count):
        x, y = draw(seed, n, m)
        p, q = interval_input(x), interval_input(y, **known)
        yield frechet_terms(p.gaussian, q.gaussian).total, confidence_interval(p, q, seed=seed)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("n", "m", "known", "method"),
    [
        (2 * D, 2 * D, {}, "jackknife with 10 groups"),
        (5 * D, 4 * D, {}, "jackknife with 10 groups"),
        (20 * D, 10 * D, {}, "analytic"),
        (20 * D, 10 * D, {"rows": False}, "analytic (generated), analytic, assuming Gaussian features (reference)"),
        (4 * D, 20 * D, {}, "jackknife with 10 groups (generated), analytic (reference)"),
    ],
)
def test_the_interval_covers_the_population_value_and_the_bias_is_removed(n, m, known, method):
    found = list(evaluations(n, m, 120, **known))
    plain = np.array([value for value, _ in found])
    corrected_value = np.array([each.corrected_value for _, each in found])
    covered = np.mean([each.low <= POPULATION_VALUE <= each.high for _, each in found])
    assert covered >= 0.9  # 95 % expected; 120 trials are within 5 of it
    assert abs(corrected_value.mean() - POPULATION_VALUE) <= 0.15 * abs(plain.mean() - POPULATION_VALUE)
    assert np.mean([each.standard_error for _, each in found]) == pytest.approx(corrected_value.std(), rel=0.25)
    assert found[0][1].method.startswith(method)


def test_a_reference_of_unknown_size_does_not_contribute_to_the_error():
    x, y = draw(0, 10 * D, 10 * D)
    known, unknown = (
        confidence_interval(interval_input(x), interval_input(y)),
        confidence_interval(interval_input(x), interval_input(y, n=False, rows=False)),
    )
    assert unknown.variance_components[1] == 0 < known.variance_components[1]
    assert "sampling error not included (reference)" in unknown.method
    assert unknown.corrected_value > known.corrected_value  # it still contains the bias due to the reference


def test_the_formulas_for_gaussians_agree_with_many_gaussian_rows():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60_000, D)) * ONE, random.standard_normal((60_000, D)) * OTHER + SHIFT
    p, q = interval_input(x), interval_input(y)
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    bare = IntervalInput(p.gaussian, p.n)
    assert _analytic_bias(bare, coupling) == pytest.approx(_analytic_bias(p, coupling), rel=0.01)
    psi = influence_function(x, p.gaussian, q.gaussian, coupling).total
    assert _sampling_variance(bare, q.gaussian, coupling, None) == pytest.approx(
        _sampling_variance(p, q.gaussian, coupling, psi), rel=0.03
    )


@pytest.mark.usefixtures("without_type_checks")
def test_the_interval_covers_for_images_sorted_by_class():
    """The groups of the jackknife are random; contiguous ones would each contain one class."""
    random = np.random.default_rng(3)
    classes = random.standard_normal((4, D))
    covered = 0
    for seed in range(60):
        draws = np.random.default_rng(seed)
        x = np.repeat(classes, D, axis=0) + draws.standard_normal((4 * D, D)) * ONE
        y = np.repeat(classes, D, axis=0) + draws.standard_normal((4 * D, D)) * OTHER
        among = np.cov(classes, rowvar=False, bias=True)
        population_value = frechet_terms(
            Gaussian(np.zeros(D), covariance=among + np.diag(ONE**2)),
            Gaussian(np.zeros(D), covariance=among + np.diag(OTHER**2)),
        ).total
        found = confidence_interval(interval_input(x), interval_input(y), seed=seed)
        covered += found.low <= population_value <= found.high
    assert covered / 60 >= 0.88


def test_the_permutation_test_applies_only_where_equality_is_in_question():
    random = np.random.default_rng(0)
    equal = confidence_interval(
        interval_input(random.standard_normal((6 * D, D))), interval_input(random.standard_normal((6 * D, D)))
    )
    assert equal.permutation_p_value is not None
    assert equal.permutation_p_value > 0.05
    assert equal.low == 0 < equal.high
    assert "permutation test" in equal.method
    x, y = draw(0, 6 * D, 6 * D)
    assert confidence_interval(interval_input(x), interval_input(y)).permutation_p_value is None  # far from zero


def test_intervals_are_equal_for_equal_seeds_and_similar_for_others():
    x, y = draw(0, 4 * D, 4 * D)
    one, same, other = (
        confidence_interval(interval_input(x), interval_input(y)),
        confidence_interval(interval_input(x), interval_input(y)),
        confidence_interval(interval_input(x), interval_input(y), seed=1),
    )
    assert one == same
    assert one.corrected_value != other.corrected_value
    assert one.corrected_value == pytest.approx(other.corrected_value, abs=one.standard_error)


def test_the_predicted_number_of_images_halves_the_interval():
    x, y = draw(0, 30 * D, 30 * D)
    found = confidence_interval(interval_input(x), interval_input(y))
    n, m = found.n_to_halve_interval(30 * D, 30 * D)
    assert (n, m) == (2000, 2000)  # 4 * 480, rounded up to two digits
    again = confidence_interval(*(interval_input(z) for z in draw(1, n, m)))
    assert again.standard_error == pytest.approx(found.standard_error / 2, rel=0.15)


def test_with_a_large_reference_more_generated_images_halve_the_interval():
    x, y = draw(0, 20 * D, 400 * D)
    n, m = confidence_interval(interval_input(x), interval_input(y)).n_to_halve_interval(20 * D, 400 * D)
    assert m == 400 * D
    assert 4 * 20 * D < n < 8 * 20 * D


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("n", "m", "more"), [(8, 8, (16, 16)), (8, 12, (16, 24)), (4, 20, (10, 20))])
def test_twice_the_images_halve_the_interval_of_equal_distributions(n, m, more):
    """d² of equal distributions is a degenerate statistic: the width is proportional to 1/n + 1/m, not to its root."""

    def equal(seed, n, m):
        random = np.random.default_rng(seed)
        return confidence_interval(
            interval_input(random.standard_normal((n * D, D))),
            interval_input(random.standard_normal((m * D, D))),
            seed=seed,
        )

    found = [equal(seed, n, m) for seed in range(20)]
    insignificant = [one for one in found if one.permutation_p_value is not None and one.permutation_p_value > 0.05]
    assert insignificant
    for one in insignificant:
        assert one.n_to_halve_interval(n * D, m * D) == pytest.approx(
            (more[0] * D, more[1] * D), rel=0.04
        )  # two digits
    again = [equal(seed, *more) for seed in range(20, 40)]
    assert np.mean([one.high for one in again]) == pytest.approx(np.mean([one.high for one in found]) / 2, rel=0.35)


@pytest.mark.parametrize("known", [{}, {"rows": False}])
def test_constant_features_have_an_interval(known):
    """d² = |μ₁ - μ₂|² + tr Σ of the other input, which is the only source of error; with two such inputs there is none."""
    x, constant = draw(0, 20 * D, 2)[0], np.full((12 * D, D), 0.25)
    moving, fixed = interval_input(x, **known), interval_input(constant, **known)
    plain = ((x.mean(0) - 0.25) ** 2).sum() + moving.gaussian.trace
    for p, q in ((moving, fixed), (fixed, moving)):
        found = confidence_interval(p, q)
        assert frechet_terms(p.gaussian, q.gaussian).total == pytest.approx(plain)
        assert found.corrected_value == pytest.approx(plain - moving.gaussian.trace / moving.n)  # the bias of the mean
        assert found.low <= (ONE**2).sum() + D * 0.25**2 <= found.high
    exact = confidence_interval(fixed, interval_input(constant + 1, **known))
    assert (exact.corrected_value, exact.standard_error) == (pytest.approx(D), 0)


def test_an_extreme_outlier_does_not_break_the_jackknife():
    """Without it, only rounding errors of the covariance of the others remain, which must not count as damage."""
    x, y = draw(0, 4 * D, 4 * D)
    x[3] = 1e10
    found = confidence_interval(interval_input(x), interval_input(y))
    assert np.isfinite([found.corrected_value, found.standard_error, found.low, found.high]).all()


def test_too_few_images_have_a_reason_instead_of_an_interval():
    pair = IntervalInput(Gaussian(np.zeros(1), covariance=np.ones((1, 1))), 2, np.array([[-1.0], [1.0]], np.float32))
    reason = explain_unavailable_interval(pair, pair)
    assert "at least 3 images" in reason  # leaving one of two out leaves no variance
    assert reason.endswith("got 2")
    x, y = draw(0, D, 10 * D)
    reason = explain_unavailable_interval(interval_input(x), interval_input(y))
    assert "at least 24 images" in reason
    assert reason.endswith("got 16")
    assert "neither" in explain_unavailable_interval(interval_input(x, n=False), interval_input(y, n=False))
    assert explain_unavailable_interval(interval_input(y), interval_input(y)) is None


def test_permuted_distances_agree_with_those_between_random_parts_of_one_set():
    random = np.random.default_rng(3)
    x, y = (random.standard_normal((n, D)) * np.arange(1, D + 1) ** -0.5 for n in (2 * D, 3 * D))
    found = permutation_test(x, y)
    pooled, exact = np.concatenate([x, y]), []
    for _ in range(200):  # independent calculation: SciPy's matrix square root for new random parts
        order = random.permutation(len(pooled))
        a, b = pooled[order[: 3 * D]], pooled[order[3 * D :]]
        first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        root = np.trace(scipy.linalg.sqrtm(first @ second).real)
        exact.append(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root)
    assert found.mean == pytest.approx(np.mean(exact), rel=0.03)
    assert found.std == pytest.approx(
        np.std(exact), rel=0.4
    )  # the standard deviation of 39 draws has a standard error of 11 %


def test_the_permutation_statistic_is_the_distance_to_second_order():
    random = np.random.default_rng(6)
    rows = random.standard_normal((90, 5)) @ random.standard_normal((5, 5)) + 3
    chosen = random.permutation(90)[:25]
    one, other = rows[chosen], np.delete(rows, chosen, axis=0)
    values, axes = np.linalg.eigh(np.cov(rows, rowvar=False))
    delta = axes.T @ (np.cov(one, rowvar=False) - np.cov(other, rowvar=False)) @ axes
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + (delta**2 / (values[:, None] + values)).sum() / 2
    assert permutation_module._pool_features(rows).second_order_distance(chosen) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_the_permutation_test_has_its_nominal_size():
    random = np.random.default_rng(4)
    values = [permutation_test(*random.standard_normal((2, 40, 3))).p_value for _ in range(300)]
    assert 0.02 <= np.mean(np.asarray(values) <= 0.05) <= 0.09  # 0.05 within 2.4 and 3.2 standard deviations
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("what", ["mean", "covariance"])
def test_the_permutation_test_detects_different_distributions(what):
    random = np.random.default_rng(5)
    x, y = random.standard_normal((2, 300, 6))
    y = y + 0.3 if what == "mean" else y * 1.3
    assert permutation_test(x, y).p_value == 1 / 40
    flat = np.concatenate([x, np.ones((300, 1))], axis=1)  # a constant feature
    assert permutation_test(flat, np.concatenate([y, np.ones((300, 1))], axis=1)).p_value == 1 / 40
