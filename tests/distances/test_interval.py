"""Bias correction and confidence interval, in simulations whose population distance has a closed form."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats

from frechet.distances.frechet import frechet_terms
from frechet.distances.gaussian import Gaussian
from frechet.distances.interval import bias_shape, confidence_interval, explain_unavailable_interval
from frechet.distances.interval_input import IntervalInput, remove_moments
from frechet.distances.sampling_error import _sampling_variance
from frechet.distances.transport import influence_function, optimal_coupling
from frechet.statistics.group_moments import GroupMoments, assign_groups
from frechet.statistics.moments import RunningMoments

D = 16


class Population:
    """Two Gaussians with diagonal covariances: d² = Σ shift² + Σ (one - other)²."""

    def __init__(self, d=D):
        self.d, self.shift = d, 0.3
        self.one, self.other = np.linspace(0.3, 1.5, d), np.linspace(0.5, 1.2, d)
        self.value = d * 0.3**2 + ((self.one - self.other) ** 2).sum()

    def draw(self, seed, n, m):
        random = np.random.default_rng(seed)
        x, y = random.standard_normal((n, self.d)), random.standard_normal((m, self.d))
        return x * self.one, y * self.other + self.shift

    def draw_pairs(self, seed, n):
        """Return y = x + noise, where the standard deviation of the noise is 0.4."""
        random = np.random.default_rng(seed)
        x, noise = random.standard_normal((2, n, self.d))
        return x * self.one, x * self.one + 0.4 * noise + self.shift

    @property
    def value_of_pairs(self):
        return self.d * self.shift**2 + ((np.sqrt(self.one**2 + 0.4**2) - self.one) ** 2).sum()


SMALL, LARGE = Population(), Population(32)


def interval_input(x, seed=0, units=None):
    """Return an input with the features of every image; n_units is the number of units of equal size."""
    return IntervalInput(
        gaussian=Gaussian(x.mean(0), covariance=np.cov(x, rowvar=False)),
        n=len(x),
        groups=GroupMoments.from_features(x.astype(np.float32), np.arange(len(x)) if units is None else units, seed),
        n_units=None if units is None else len(set(units.tolist())),
        rows=x.astype(np.float32),
        units=units,
        row_groups=assign_groups(np.arange(len(x)), seed) if units is None else None,
    )


def fixed_input(mean, covariance):
    return IntervalInput(Gaussian(mean, covariance=covariance))


def draw_inputs(design, seed):
    """Return generated and reference input, and whether they are paired. The smallest n is two images per dimension."""
    population = LARGE
    if design == "pairs":
        return *(interval_input(z, seed) for z in population.draw_pairs(seed, 5 * population.d)), True
    n, m = {"unequal": (3, 10), "large": (10, 10), "clusters": (3, 5)}.get(design, (2, 2))
    x, y = population.draw(seed, n * population.d, m * population.d)
    p, q = interval_input(x, seed), interval_input(y, seed)
    if design == "fixed":
        q = fixed_input(np.full(population.d, population.shift), np.diag(population.other**2))
    if design in ("clusters", "ignored clusters"):
        copies = np.repeat(x, 4, axis=0)
        p = interval_input(copies, seed, np.repeat(np.arange(len(x)), 4) if design == "clusters" else None)
    return p, q, False


def simulate(design, trials=120):
    plain, intervals = [], []
    for seed in range(trials):
        p, q, paired = draw_inputs(design, seed)
        plain.append(frechet_terms(p.gaussian, q.gaussian).total)
        intervals.append(confidence_interval(p, q, paired=paired))
    return np.array(plain), intervals


def coverage(intervals, value):
    return np.mean([each.low <= value <= each.high for each in intervals])


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("design", ["small", "unequal", "large", "fixed", "clusters", "pairs"])
def test_the_interval_covers_the_population_value_and_the_bias_is_removed(design):
    plain, intervals = simulate(design)
    value = LARGE.value_of_pairs if design == "pairs" else LARGE.value
    corrected = np.array([each.corrected_value for each in intervals])
    assert coverage(intervals, value) >= 0.9  # 95 % expected; 120 trials are within 5 of it
    bias = plain.mean() - value
    assert abs(corrected.mean() - value) <= 0.05 * bias + 2 * corrected.std() / 120**0.5
    assert 2 * corrected.std() / 120**0.5 < 0.5 * bias  # otherwise the line above could not fail
    errors = np.mean([each.standard_error for each in intervals])
    assert 0.8 * corrected.std() <= errors <= 1.4 * corrected.std()  # 120 draws estimate it to 6 %; may be too large


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_ignoring_clusters_or_pairs_gives_a_wrong_standard_error():
    _, intervals = simulate("ignored clusters")
    assert coverage(intervals, LARGE.value) < 0.5
    corrected, errors = [], []
    for seed in range(60):
        p, q, _ = draw_inputs("pairs", seed)
        paired, unpaired = confidence_interval(p, q, paired=True), confidence_interval(p, q)
        corrected.append(paired.corrected_value)
        errors.append((paired.standard_error, unpaired.standard_error))
        assert paired.corrected_value == unpaired.corrected_value
    paired_error, unpaired_error = np.mean(errors, axis=0)
    assert paired_error == pytest.approx(np.std(corrected), rel=0.3)  # 60 draws estimate it to 9 %
    assert unpaired_error > 1.5 * paired_error


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_the_interval_covers_for_images_sorted_by_class():
    """The groups of the jackknife are random; contiguous ones would each contain one class."""
    random = np.random.default_rng(3)
    classes = random.standard_normal((4, D))
    among = np.cov(classes, rowvar=False, bias=True)
    first, second = (among + np.diag(scale**2) for scale in (SMALL.one, SMALL.other))
    population_value = np.trace(first + second - 2 * scipy.linalg.sqrtm(first @ second).real)
    intervals = []
    for seed in range(60):
        draws = np.random.default_rng(seed)
        x, y = (
            np.repeat(classes, D, axis=0) + draws.standard_normal((4 * D, D)) * scale
            for scale in (SMALL.one, SMALL.other)
        )
        intervals.append(confidence_interval(interval_input(x, seed), interval_input(y, seed)))
    assert coverage(intervals, population_value) >= 0.88


def test_a_fixed_reference_contributes_neither_bias_nor_error():
    x, y = SMALL.draw(0, 10 * D, 10 * D)
    p, sample = interval_input(x), interval_input(y)
    fixed = sample.fix()
    for_sample, for_fixed = confidence_interval(p, sample), confidence_interval(p, fixed)
    assert for_fixed.variance_components == (pytest.approx(for_sample.variance_components[0]), 0)
    assert for_sample.variance_components[1] > 0
    assert for_fixed.reference_groups is None
    assert for_sample.reference_groups is not None
    assert for_fixed.corrected_value > for_sample.corrected_value  # only the bias of the generated images is removed
    assert for_fixed.standard_error == pytest.approx(for_fixed.variance_components[0] ** 0.5)


def test_the_permutation_test_applies_only_where_equality_is_in_question():
    random = np.random.default_rng(0)
    equal = confidence_interval(*(interval_input(random.standard_normal((6 * D, D))) for _ in range(2)))
    assert equal.permutation_p_value is not None
    assert equal.permutation_p_value > 0.05
    assert equal.low == 0 < equal.high
    assert "permutation test" in equal.method
    far = confidence_interval(*map(interval_input, SMALL.draw(0, 6 * D, 6 * D)))
    assert far.permutation_p_value is None
    assert "permutation test" not in far.method


def test_intervals_are_equal_for_equal_groups_and_similar_for_others():
    x, y = SMALL.draw(0, 4 * D, 4 * D)
    one, same, other = (confidence_interval(interval_input(x, seed), interval_input(y, seed)) for seed in (0, 0, 1))
    assert one == same
    assert one.corrected_value != other.corrected_value
    assert one.corrected_value == pytest.approx(other.corrected_value, abs=one.standard_error)


def test_progress_reaches_the_number_of_steps():
    steps = []
    confidence_interval(*map(interval_input, SMALL.draw(0, 64, 64)), on_step=lambda *step: steps.append(step))
    assert steps == [(step, 5) for step in range(1, 6)]


@pytest.mark.parametrize("design", ["large", "clusters", "pairs"])
def test_the_variance_of_the_groups_of_influence_is_the_variance_component(design):
    p, q, paired = draw_inputs(design, 0)
    found = confidence_interval(p, q, paired=paired)
    assert len(found.reference_groups) == 64
    for groups, component in zip(
        (found.generated_groups, found.reference_groups), found.variance_components, strict=True
    ):
        if paired and not component:
            assert groups is None
        else:
            assert np.var(groups, ddof=1) == pytest.approx(component, rel=0.6)  # its standard error is √(2/63) = 18 %


def test_the_predicted_number_of_images_halves_the_interval():
    found = confidence_interval(*map(interval_input, SMALL.draw(0, 30 * D, 30 * D)))
    n, m = found.n_to_halve_interval(30 * D, 30 * D)
    assert (n, m) == (2000, 2000)  # 4 * 480, rounded up to two digits
    again = confidence_interval(*map(interval_input, SMALL.draw(1, n, m)))
    assert again.standard_error == pytest.approx(found.standard_error / 2, rel=0.15)


def test_with_a_large_or_fixed_reference_more_generated_images_halve_the_interval():
    x, y = SMALL.draw(0, 20 * D, 400 * D)
    n, m = confidence_interval(interval_input(x), interval_input(y)).n_to_halve_interval(20 * D, 400 * D)
    assert m == 400 * D
    assert 4 * 20 * D < n < 8 * 20 * D
    fixed = confidence_interval(interval_input(x), interval_input(y).fix())
    assert fixed.n_to_halve_interval(20 * D, None) == (1300, None)  # 4 * 320, rounded up to two digits


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("n", "m", "more"), [(8, 8, (16, 16)), (8, 12, (16, 24)), (4, 20, (10, 20))])
def test_twice_the_images_halve_the_interval_of_equal_distributions(n, m, more):
    """d² of equal distributions is a degenerate statistic: the width is proportional to 1/n + 1/m, not to its root."""

    def equal(seed, n, m):
        random = np.random.default_rng(seed)
        return confidence_interval(*(interval_input(random.standard_normal((k * D, D)), seed) for k in (n, m)))

    found = [equal(seed, n, m) for seed in range(20)]
    insignificant = [one for one in found if one.permutation_p_value is not None and one.permutation_p_value > 0.05]
    assert insignificant
    for one in insignificant:
        assert one.n_to_halve_interval(n * D, m * D) == pytest.approx(
            (more[0] * D, more[1] * D), rel=0.04
        )  # two digits
    again = [equal(seed, *more) for seed in range(20, 40)]
    assert np.mean([one.high for one in again]) == pytest.approx(np.mean([one.high for one in found]) / 2, rel=0.35)


@pytest.mark.parametrize("is_fixed", [False, True])
def test_constant_features_have_an_interval(is_fixed):
    """d² = |μ₁ - μ₂|² + tr Σ of the other input, which is the only source of error; with two such inputs there is none."""
    x, constant = SMALL.draw(0, 20 * D, 2)[0], interval_input(np.full((12 * D, D), 0.25))
    moving = interval_input(x)
    bias = moving.gaussian.trace / moving.n  # of |μ₁ - μ₂|²
    plain = ((x.mean(0) - 0.25) ** 2).sum() + moving.gaussian.trace
    inputs = [(moving, constant.fix())] if is_fixed else [(moving, constant), (constant, moving)]
    for p, q in inputs:
        found = confidence_interval(p, q)
        assert frechet_terms(p.gaussian, q.gaussian).total == pytest.approx(plain)
        assert found.corrected_value == pytest.approx(plain - bias, abs=bias / 2)
        assert found.low <= (SMALL.one**2).sum() + D * 0.25**2 <= found.high
        assert sorted(found.variance_components)[0] == 0
    shifted = interval_input(np.full((12 * D, D), 1.25))
    exact = confidence_interval(constant, shifted.fix() if is_fixed else shifted)
    assert (exact.corrected_value, exact.standard_error) == (pytest.approx(D), 0)


def test_an_extreme_outlier_does_not_break_the_jackknife():
    """Without it, only rounding errors of the covariance of the others remain, which must not count as damage."""
    x, y = SMALL.draw(0, 4 * D, 4 * D)
    x[3] = 1e10
    found = confidence_interval(interval_input(x), interval_input(y))
    assert np.isfinite([found.corrected_value, found.standard_error, found.low, found.high]).all()


def test_too_few_images_have_a_reason_instead_of_an_interval():
    x, y = SMALL.draw(0, 49, 50)
    few, enough = interval_input(x), interval_input(y)
    for inputs, given in (
        ((few, enough), "49 generated and 50 reference"),
        ((enough, few), "50 generated and 49 reference"),
    ):
        reason = explain_unavailable_interval(*inputs)
        assert "at least 50 images" in reason
        assert reason.endswith(f"got {given}")
    assert explain_unavailable_interval(enough, enough) is None
    for fixed in (few.fix(), replace(few, groups=None)):  # a fixed distribution has no sampling error
        assert explain_unavailable_interval(enough, fixed) is None
    x, y = Population(64).draw(0, 95, 96)  # 1.5 per dimension
    assert "at least 96 images" in explain_unavailable_interval(interval_input(x), interval_input(y))
    assert explain_unavailable_interval(interval_input(y), interval_input(y)) is None


def test_too_few_clusters_have_a_reason_that_names_their_number():
    x = np.repeat(SMALL.draw(0, 49, 1)[0], 4, axis=0)
    p, q = interval_input(x, units=np.repeat(np.arange(49), 4)), interval_input(SMALL.draw(1, 1, 60)[1])
    reason = explain_unavailable_interval(p, q)
    assert "at least 50 independent images" in reason
    assert reason.endswith("got 49 generated and 60 reference")
    assert explain_unavailable_interval(replace(p, n_units=50), q) is None


@pytest.mark.parametrize("missing", ["groups", "rows"])
def test_generated_statistics_without_groups_or_rows_have_a_reason_with_the_fix(missing):
    p, q = map(interval_input, SMALL.draw(0, 64, 64))
    reason = explain_unavailable_interval(replace(p, **{missing: None}), q)
    assert "generated statistics" in reason
    assert "frechet stats" in reason


def test_removing_a_group_gives_the_gaussian_of_the_remaining_images():
    x = SMALL.draw(0, 90, 1)[0] + 3
    p, assigned = interval_input(x), assign_groups(np.arange(90), 0)
    removed = p.groups.merge_groups([2, 7])
    rest = x[(assigned != 2) & (assigned != 7)]
    left = remove_moments(p.gaussian, 90, removed)
    assert 0 < removed.n == 90 - len(rest)
    np.testing.assert_allclose(left.mean, rest.mean(0), rtol=1e-6)
    np.testing.assert_allclose(left.covariance, np.cov(rest, rowvar=False), atol=1e-5)
    exact = remove_moments(p.gaussian, 90, RunningMoments.from_features(x[:25]))
    np.testing.assert_allclose(exact.mean, x[25:].mean(0), rtol=1e-12)
    np.testing.assert_allclose(exact.covariance, np.cov(x[25:], rowvar=False), rtol=1e-10, atol=1e-13)
    nothing = remove_moments(p.gaussian, 90, RunningMoments.empty(D))
    np.testing.assert_array_equal(nothing.mean, p.gaussian.mean)
    np.testing.assert_allclose(nothing.covariance, p.gaussian.covariance, rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.2, 2 / 3, 1.0])
def test_the_bias_shape_is_that_of_a_root_of_a_marchenko_pastur_variable(gamma):
    expected = 1 - scipy.special.hyp2f1(-0.5, 0.5, 2, gamma)
    assert bias_shape(gamma, 0) == bias_shape(0, gamma) == pytest.approx(expected, abs=1e-4)
    assert bias_shape(min(gamma, 0.7), 0) == pytest.approx(
        1 - scipy.special.hyp2f1(-0.5, 0.5, 2, min(gamma, 0.7)), abs=1e-9
    )
    assert bias_shape(gamma, gamma) == pytest.approx(gamma / 4)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_the_bias_shape_is_the_expected_root_of_a_sample_covariance():
    """tr √Σ̂ of white images with two dimensions per three images."""
    random = np.random.default_rng(0)
    roots = [np.sqrt(np.linalg.eigvalsh(np.cov(random.standard_normal((300, 200)).T))).mean() for _ in range(10)]
    assert bias_shape(200 / 299, 0) == pytest.approx(1 - np.mean(roots), rel=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_units_of_unequal_size_have_a_smaller_bias_for_the_same_effective_number():
    """White images of which a twentieth have ten copies; n² / Σ m² and n Σ m³ / (Σ m²)² by hand."""
    d, sizes, roots = 80, np.array([10] * 40 + [1] * 760), []
    n, squares, cubes = 1160, 4760, 40_760
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal((800, d))
        roots.append(np.sqrt(np.linalg.eigvalsh((x * sizes[:, None]).T @ x / n)).mean())
    gamma, skewness = d * squares / n**2, n * cubes / squares**2
    expected = 1 - np.mean(roots)
    assert bias_shape(gamma, 0, skewness, 1) == bias_shape(0, gamma, 1, skewness) == pytest.approx(expected, rel=0.02)
    assert bias_shape(gamma, 0) > 1.04 * expected


def test_the_jackknife_is_that_of_busing_for_groups_of_unequal_size():
    """J F - Σ (1 - m/n) F₋ₘ for J parts of m images; both inputs lose the same images, so that the bias is linear in 1/n."""
    n = 90
    x, y = SMALL.draw_pairs(0, n)
    p, q = interval_input(x), interval_input(y)
    parts = assign_groups(np.arange(n), 0) % 5
    expected = 5 * scipy_distance(x, y)
    for part in range(5):
        kept = parts != part
        expected -= kept.mean() * scipy_distance(x[kept], y[kept])
    assert len(set(np.bincount(parts).tolist())) > 1
    for paired in (False, True):
        assert confidence_interval(p, q, paired=paired).corrected_value == pytest.approx(expected, abs=1e-5)
    assert abs(expected - scipy_distance(x, y)) > 1e-2  # the correction itself is much larger than the tolerance


def test_the_interval_covers_both_extremes_of_the_bias_against_a_fixed_distribution():
    """The higher orders are between 0, for which the jackknife is that of Busing et al., and those of white Gaussians."""
    n, (mean, covariance) = 60, (np.full(D, SMALL.shift), np.diag(SMALL.other**2))
    x = 2 * SMALL.draw(0, n, n)[0]
    parts = assign_groups(np.arange(n), 0) % 5
    linear = 5 * scipy_distance(x, mean, covariance)
    for part in range(5):
        kept = parts != part
        linear -= kept.mean() * scipy_distance(x[kept], mean, covariance)
    p, q = interval_input(x), fixed_input(mean, covariance)
    found = confidence_interval(p, q)
    below, above = (quantile * found.standard_error for quantile in expected_quantiles(x, p, q, found.standard_error))
    assert found.corrected_value > linear + 0.02 * below
    assert found.low == pytest.approx(linear - below, abs=1e-4)
    symmetric = (1.959964 * found.standard_error) ** 2 / (4 * found.corrected_value)
    curved = found.standard_error * expected_abc_quantile(x, p, q, found.standard_error)
    assert curved > above + symmetric + 1e-2
    assert found.high == pytest.approx(found.corrected_value + curved, rel=1e-4)


def expected_quantiles(x, p, q, error):
    """Return 1.96, on the side of the long tail increased by γ (2 · 1.96² + 1) / (6 √n) for the skewness γ of ψ."""
    psi = influence_function(x, p.gaussian, q.gaussian, optimal_coupling(p.gaussian, q.gaussian)).total
    shift = (
        scipy.stats.skew(psi) * (psi.std() / len(psi) ** 0.5 / error) ** 3 * (2 * 1.959964**2 + 1) / 6 / len(psi) ** 0.5
    )
    return 1.959964 + max(0, -shift), 1.959964 + max(0, shift)


def expected_abc_quantile(x, p, q, error):
    """Return z + γ (2 z² + 1) / (6 √n) + κσ (z² + 1), of which κσ is half a second difference, for weights along ψ."""
    z, n = 1.959964, len(x)
    psi = influence_function(x, p.gaussian, q.gaussian, optimal_coupling(p.gaussian, q.gaussian)).total
    psi, centered = psi - psi.mean(), x - x.mean(0)
    shift = (psi**3).mean() / n**2 / error**3 * (2 * z**2 + 1) / 6
    slope = (psi**2).mean() / n

    def distance(step):
        weights = step * psi / n**2
        change = weights @ centered
        covariance = p.gaussian.covariance + (centered * weights[:, None]).T @ centered - np.outer(change, change)
        root = np.trace(scipy.linalg.sqrtm(covariance @ q.gaussian.covariance).real)
        mean = p.gaussian.mean + change
        return ((mean - q.gaussian.mean) ** 2).sum() + np.trace(covariance) + q.gaussian.trace - 2 * root

    curvature = (distance(0.01) + distance(-0.01) - 2 * distance(0)) / (2 * 0.01**2) / slope**2
    return z + shift + curvature * error * (z**2 + 1)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_interval_is_longer_on_the_side_of_the_long_tail_of_the_error(scale):
    """A few images with a large norm raise the distance if the fixed distribution is narrower, and lower it if it is wider."""
    x = SMALL.draw(0, 200, 1)[0] * np.exp(np.random.default_rng(1).standard_normal((200, 1)))
    p, q = interval_input(x), fixed_input(np.zeros(D), np.cov(x, rowvar=False) * scale**2)
    found = confidence_interval(p, q)
    below, above = expected_quantiles(x, p, q, found.standard_error)
    assert (below > 2.2) == (scale > 1)
    assert (above > 2.2) == (scale < 1)
    symmetric = (1.959964 * found.standard_error) ** 2 / (4 * found.corrected_value)
    assert found.high == pytest.approx(found.corrected_value + above * found.standard_error + symmetric, rel=1e-3)
    if found.low > 0:
        assert found.low <= found.corrected_value - below * found.standard_error * 0.999


def test_the_bias_depends_on_the_number_of_clusters():
    """By the formula, with γ = d over the number of independent images; it is not linear if those of both inputs differ."""
    n, corrections = 120, []
    p, q = map(interval_input, SMALL.draw_pairs(0, n))
    plain = frechet_terms(p.gaussian, q.gaussian).total
    shares = np.bincount(assign_groups(np.arange(n), 0) % 5) / n
    for n_units in (n, 30):
        gamma_1, gamma_2 = D / n_units, D / n
        bias = bias_shape(gamma_1, gamma_2)
        increase = sum((1 - m) * (bias_shape(gamma_1 / (1 - m), gamma_2 / (1 - m)) - bias) for m in shares)
        found = confidence_interval(replace(p, n_units=n_units), q).corrected_value
        corrections.append((plain - found) / (bias / increase))
    assert corrections[0] == pytest.approx(corrections[1])
    assert bias / increase < 0.99  # it is 1 if the bias is linear in 1/n


def scipy_distance(x, y, covariance=None):
    """Return the distance of two samples, or of a sample from a Gaussian with mean y."""
    mean, second = (y.mean(0), np.cov(y, rowvar=False)) if covariance is None else (y, covariance)
    first = np.cov(x, rowvar=False)
    root = np.trace(scipy.linalg.sqrtm(first @ second).real)
    return ((x.mean(0) - mean) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root


def test_the_variance_of_clusters_is_that_of_the_totals_of_the_influence_function():
    """By hand from all rows, and from the groups if the rows are only a sample."""
    x, y = SMALL.draw(0, 60, 80)
    units = np.repeat(np.arange(30), [1, 3] * 15)
    p, q = interval_input(x, units=units), interval_input(y)
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    psi = influence_function(x, p.gaussian, q.gaussian, coupling).total
    psi -= psi.mean()
    totals = np.array([psi[units == unit].sum() for unit in range(30)])
    expected = (totals**2).sum() * 30 / 29 / 60**2
    assert _sampling_variance(p, q, coupling, psi) == pytest.approx(expected)
    assert _sampling_variance(replace(p, units=None), q, coupling, psi) == pytest.approx((psi**2).sum() / 59 / 60)
    sampled = replace(p, rows=p.rows[:20], units=units[:20])
    totals = np.array([psi[assign_groups(units, 0) == group].sum() for group in range(10)])
    assert np.count_nonzero(totals) == 10
    expected = (totals**2).sum() * 10 / 9 / 60**2
    student = (
        2.262157 / 1.959964
    )  # ratio of the 97.5 % quantiles of 9 degrees of freedom and of the normal distribution
    assert _sampling_variance(sampled, q, coupling, psi[:20]) == pytest.approx(expected * student**2, rel=1e-4)


def test_the_variance_of_sampled_clusters_is_on_average_that_of_all_images():
    """By hand from all images: the mean over random samples of half of the rows; ignoring the clusters, it is a third."""
    x, y = SMALL.draw(0, 200, 200)
    units = np.repeat(np.arange(200), 4)
    x = x[units] + 0.3 * np.random.default_rng(1).standard_normal((800, D))
    p, q = interval_input(x, units=units), interval_input(y)
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    psi = influence_function(x, p.gaussian, q.gaussian, coupling).total
    psi -= psi.mean()
    expected = (psi.reshape(200, 4).sum(1) ** 2).sum() / 800**2
    found = []
    for seed in range(200):
        chosen = np.random.default_rng(seed).permutation(800)[:400]
        sampled = replace(p, rows=p.rows[chosen], units=units[chosen])
        found.append(_sampling_variance(sampled, q, coupling, psi[chosen]))
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 200**0.5)
    assert np.std(found) < 0.2 * expected  # that of ten groups has √(2/9) = 47 %
    assert (psi**2).sum() / 800**2 < 0.5 * expected


@pytest.mark.parametrize(("d", "contrast", "is_geometric"), [(24, 0.7, True), (16, 0.0, False)])
def test_the_variance_of_pairs_is_a_mean_of_that_of_their_fit_and_of_fits_without_them(d, contrast, is_geometric):
    """By hand in float64, with weights 5/9 and 4/9: a geometric mean, or that of ψ; ψ_out is from the other four fifths."""
    n, random = 60, np.random.default_rng(0)
    x = np.exp(contrast * random.standard_normal((n, 1))) * np.geomspace(1, 0.01, d) * random.standard_normal((n, d))
    y = x + 0.02 * random.standard_normal((n, d))
    parts = assign_groups(np.arange(n), 0) % 5

    def sum_influence(rows, others, kept):
        p, q = (Gaussian(z[kept].mean(0), covariance=np.cov(z[kept], rowvar=False)) for z in (x, y))
        coupling = optimal_coupling(p, q)
        return influence_function(rows, p, q, coupling).total + influence_function(others, q, p, coupling.swap()).total

    fitted, left_out = sum_influence(x, y, np.full(n, True)), np.empty(n)
    for part in range(5):
        left_out[parts == part] = sum_influence(x[parts == part], y[parts == part], parts != part)
    of_fit, of_rest, of_mean = (psi.var(ddof=1) / n for psi in (fitted, left_out, (5 * fitted + 4 * left_out) / 9))
    geometric = of_fit ** (5 / 9) * of_rest ** (4 / 9)
    assert (geometric < 0.97 * of_mean) == is_geometric
    assert (geometric > 1.03 * of_mean) != is_geometric
    found = confidence_interval(*map(interval_input, (x, y)), paired=True)
    assert found.variance_components == (0, pytest.approx(min(geometric, of_mean), rel=1e-3))


@pytest.mark.slow
@pytest.mark.usefixtures("without_type_checks")
def test_the_standard_error_of_pairs_is_not_too_small_for_images_of_different_contrast():
    """The contrast is log-normal: the smallest of many variances is known poorly. From the fit alone, the ratio is 0.69."""
    d, n, noise = 32, 320, 0.02
    scales, found = np.geomspace(1, 10**-2.5, d), []
    for seed in range(100):
        random = np.random.default_rng(seed)
        contrast = np.exp(0.7 * random.standard_normal((n, 1)) - 0.7**2)
        x = contrast * scales * random.standard_normal((n, d))
        p, q = interval_input(x, seed), interval_input(x + noise * random.standard_normal((n, d)), seed)
        found.append(confidence_interval(p, q, paired=True))
    ratio = np.mean([each.standard_error for each in found]) / np.std([each.corrected_value for each in found])
    assert 0.9 < ratio < 1.5
