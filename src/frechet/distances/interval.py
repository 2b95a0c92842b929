"""Bias correction and 95 % confidence interval of a squared Fréchet distance.

The plain value exceeds the population value by about b₁/n₁ + b₂/n₂. A jackknife removes this bias: groups of images are left
out in turn (Busing, Meijer & van der Leeden 1999). It needs only the moments of the groups, and is valid for dependent images
if all images of one sampling unit (pair, cluster, duplicates) are in the same group.

The standard error is that of the influence function ψ, summed over the images of each sampling unit: √(Var ψ₁/n₁ + Var ψ₂/n₂)
for independent images. As for every jackknife, it is a little too large rather than too small (Efron & Stein 1981).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from frechet.distances.frechet import COARSE_TOLERANCE, frechet_terms
from frechet.distances.gaussian import FLOAT64_EPS, Gaussian
from frechet.distances.permutation_test import swap_test
from frechet.distances.transport import Coupling, influence_function, optimal_coupling, squared_frechet_distance
from frechet.statistics.group_moments import MIN_IMAGES_PER_DIM, GroupMoments
from frechet.statistics.moments import RunningMoments
from frechet.statistics.row_sample import MAX_SAMPLE_ROWS, priorities

NUM_DELETIONS = 5  # parts of the images that the jackknife leaves out in turn; each consists of two groups
MIN_UNITS = 50  # independent images, pairs or clusters; with fewer, a group may be empty
NUM_INFLUENCE_GROUPS = 64  # groups of images for which ψ is averaged; its variance is then known to √(2/64)
NUM_SERIES_TERMS = 30  # of the hypergeometric series of the bias; at γ = 1, it is then accurate to 1e-4
Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal: half the width of a 95 % interval in standard errors
SIGNIFICANCE_LEVEL = 0.05  # largest p-value (adjusted, where several are tested) that counts as a difference
_ROUNDING = 1e-10  # of the total variance: a distance that is not larger cannot be distinguished from 0
_FLOAT32_EPS = float(np.finfo(np.float32).eps)
# 97.5 % quantiles of Student's distribution with 1 to 9 degrees of freedom
_T_95 = (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)


@dataclass(frozen=True)
class IntervalInput:
    """One of the two inputs of a comparison, and how it was sampled.

    Attributes:
        gaussian: Gaussian of the features, with its covariance as a matrix.
        n: number of images, or None if unknown.
        groups: moments of random groups of the images; None for a distribution that is fixed, without a sampling error.
        n_units: effective number of sampling units (independent images, pairs or clusters); None if each image is one.
        unit_skewness: n Σ m³ / (Σ m²)² for units of m images; 1 for units of equal size.
        rows: (r, d) features of a sample of the images, or of all of them (r = n); needed if there are groups.
        units: (r,) sampling unit of each row; None if each image is one.
    """

    gaussian: Gaussian
    n: int | None = None
    groups: GroupMoments | None = None
    n_units: int | None = None
    unit_skewness: float = 1.0
    rows: Float[np.ndarray, "r d"] | None = None
    units: Integer[np.ndarray, " r"] | None = None

    @property
    def has_all_rows(self) -> bool:
        """Whether the features of every image are available."""
        return self.rows is not None and len(self.rows) == self.n

    def fix(self) -> IntervalInput:
        """Return this input as a fixed distribution."""
        return IntervalInput(self.gaussian)


class Interval(NamedTuple):
    """An estimate of the population value of a squared Fréchet distance, in squared feature units.

    Attributes:
        corrected_value: the bias-corrected value; may be negative.
        standard_error: standard error of the corrected value.
        low, high: 95 % confidence interval of the population value; never negative.
        method: description of the method.
        variance_components: contributions of p's and of q's images to the squared standard error. That of pairs is
            attributed to q, and ψ of a pair is the sum of both.
        permutation_p_value: p-value of the hypothesis of equal distributions, or None if the interval excludes 0.
        generated_groups, reference_groups: means of ψ over groups of p's and q's images, scaled so that their sample variance
            estimates the variance component. Their covariance with those of another distance to the same images estimates
            how much the two distances vary together. None for a fixed distribution.
    """

    corrected_value: float
    standard_error: float
    low: float
    high: float
    method: str
    variance_components: tuple[float, float]
    permutation_p_value: float | None = None
    generated_groups: tuple[float, ...] | None = None
    reference_groups: tuple[float, ...] | None = None

    def n_to_halve_interval(self, n: int | None, m: int | None) -> tuple[int | None, int | None]:
        """Estimate how many images would halve the width of the interval.

        More images of p alone are enough if q contributes little; otherwise both need more. The width is proportional to
        1/√n, but to 1/n if the distributions do not differ significantly, because d² is then the square of such a quantity.

        Args:
            n, m: numbers of images of p and q, or None if unknown.

        Returns:
            Numbers of images of p and q, rounded up to two digits; None where the number is unknown.
        """
        first, second, factor = (*self.variance_components, 4)
        if n and m and self.permutation_p_value is not None and self.permutation_p_value > SIGNIFICANCE_LEVEL:
            first, second, factor = 1 / n, 1 / m if self.reference_groups else 0.0, 2
        target = (first + second) / factor
        if n is not None and second < target / 2:
            return _round_up(n * first / (target - second)), m
        return tuple(None if size is None else _round_up(factor * size) for size in (n, m))  # type: ignore[return-value]


def explain_unavailable_interval(p: IntervalInput, q: IntervalInput) -> str | None:
    """Return the reason why no confidence interval can be computed, or None if one can.

    Args:
        p, q: the two inputs.
    """
    d = p.gaussian.mean.shape[0]
    fewest = max(MIN_UNITS, int(-(-MIN_IMAGES_PER_DIM * d // 1)))
    for name, each in (("generated", p), ("reference", q)):
        n_units = each.n if each.n_units is None else each.n_units
        is_sampled = each.groups is not None or name == "generated"
        if is_sampled and n_units is not None and n_units < fewest:
            kind = "images" if n_units == each.n else "independent images (equivalent to the clusters or duplicates)"
            return (
                f"an interval needs at least {fewest:,} {kind} per input ({MIN_IMAGES_PER_DIM} per feature dimension, at "
                f"least {MIN_UNITS}); got {n_units:,}"
            )
    if p.groups is None or p.rows is None:
        return (
            "the generated statistics hold neither the features of every image nor moments of groups of images, which an "
            "interval is computed from; score the images, or write the statistics again with frechet stats"
        )
    return None


def confidence_interval(
    p: IntervalInput,
    q: IntervalInput,
    *,
    paired: bool = False,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Interval:
    """Estimate the squared Fréchet distance between the distributions of two inputs, with a 95 % confidence interval.

    If the interval contains 0, where ψ vanishes, a permutation test decides whether the distributions differ.

    Args:
        p, q: the two inputs, for which `explain_unavailable_interval` returns None.
        paired: whether image i of p belongs to image i of q, so that their errors are correlated.
        on_step: called with (steps done, total steps).

    Returns:
        The corrected value, its standard error and its interval, in squared feature units.
    """
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    plain_value = float(squared_frechet_distance(p.gaussian, q.gaussian, coupling))
    corrected_value = _jackknife_estimate(plain_value, p, q, on_step)
    influence_values = _influence_values(p, q, coupling), _influence_values(q, p, coupling.swap())
    if paired:
        one, other = influence_values
        assert one is not None
        assert other is not None
        assert p.n is not None
        influence_values = None, one + other
        variance_components = 0.0, _variance_of_mean(one + other, None, p.n)
    else:
        variance_components = (
            _sampling_variance(p, q, coupling, influence_values[0]),
            _sampling_variance(q, p, coupling.swap(), influence_values[1]),
        )
    error = sum(variance_components) ** 0.5
    rounding = _ROUNDING * float(p.gaussian.trace + q.gaussian.trace)
    interval = Interval(
        corrected_value,
        error,
        max(0.0, corrected_value - Z_95 * error - rounding),
        max(0.0, corrected_value) + Z_95 * error + _upper_end_correction(corrected_value, error),
        f"jackknife with {NUM_DELETIONS} groups",
        variance_components,
        generated_groups=_average_over_groups(p, influence_values[0]),
        reference_groups=_average_over_groups(q, influence_values[1]),
    )
    if interval.low > 0:
        return interval
    p_value = swap_test(p.gaussian, p.groups, q.gaussian, q.groups)
    low = interval.low if p_value <= SIGNIFICANCE_LEVEL else 0.0
    return interval._replace(low=low, permutation_p_value=p_value, method=f"{interval.method}; permutation test")


def _upper_end_correction(corrected_value: float, error: float) -> float:
    """Compute by how much the upper end is further away: Var ψ grows with d², so that the error of √d² is symmetric."""
    return (Z_95 * error) ** 2 / (4 * max(corrected_value, error)) if error else 0.0


def _influence_values(p: IntervalInput, q: IntervalInput, coupling: Coupling) -> Float[np.ndarray, " r"] | None:
    """Compute ψ of p's rows, or of a random sample if each image is a unit; return None if p is fixed."""
    if p.groups is None or p.rows is None:
        return None
    rows = p.rows
    if p.units is None and len(rows) > MAX_SAMPLE_ROWS:
        rows = rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:MAX_SAMPLE_ROWS])]
    psi = influence_function(rows.astype(np.float64), p.gaussian, q.gaussian, coupling).total
    return psi - psi.mean()


def _sampling_variance(
    p: IntervalInput, q: IntervalInput, coupling: Coupling, psi: Float[np.ndarray, " r"] | None
) -> float:
    """Compute the variance of the distance that is due to the sampling of p; 0 if p is fixed."""
    if psi is None or p.n is None or p.groups is None:
        return 0.0
    if p.units is None or p.has_all_rows:
        return _variance_of_mean(psi, p.units, p.n)
    return _variance_over_groups(p, q.gaussian, coupling)


def _variance_of_mean(psi: Float[np.ndarray, " r"], units: Integer[np.ndarray, " r"] | None, n: int) -> float:
    """Compute the variance of the mean of ψ over n images, of which r rows are a random sample or all.

    The values of one sampling unit are added before they are squared.
    """
    totals = psi if units is None else np.bincount(np.unique(units, return_inverse=True)[1], weights=psi)
    return float(totals @ totals) * len(totals) / (len(totals) - 1) / (n * len(psi))


def _variance_over_groups(p: IntervalInput, q: Gaussian, coupling: Coupling) -> float:
    """Compute the variance of the mean of ψ from the means of the groups.

    It is needed if the rows are a sample that holds only a part of some clusters. Because few groups determine it only
    roughly, it is increased so that 1.96 standard errors are the quantile of Student's distribution.
    """
    assert p.groups is not None
    assert p.gaussian.covariance is not None
    a = np.eye(len(p.gaussian.mean)) - coupling.onto_q.T @ coupling.onto_q
    center = float(np.vdot(a, p.gaussian.covariance))
    totals = []
    for group in np.flatnonzero(p.groups.n):
        moments = p.groups.get(int(group))
        shift = moments.mean - p.gaussian.mean
        spread = float(np.vdot(a, moments.scatter)) / moments.n + shift @ a @ shift - center
        totals.append(moments.n * (2 * shift @ (p.gaussian.mean - q.mean) + spread))
    centered = np.array(totals) - p.groups.n[p.groups.n > 0] * (sum(totals) / p.groups.n.sum())
    count = len(totals)
    variance = float(centered @ centered) * count / (count - 1) / p.groups.n.sum() ** 2
    return variance * (_T_95[count - 2] / Z_95) ** 2


def _average_over_groups(p: IntervalInput, psi: Float[np.ndarray, " r"] | None) -> tuple[float, ...] | None:
    """Average ψ over random groups of p's sampling units, which are the same for every comparison."""
    if psi is None or p.n is None or len(psi) < 2 * NUM_INFLUENCE_GROUPS:
        return None
    units = np.arange(len(psi)) if p.units is None else p.units
    groups = (priorities(units, seed=1) % np.uint64(NUM_INFLUENCE_GROUPS)).astype(np.int64)
    totals = np.bincount(groups, weights=psi, minlength=NUM_INFLUENCE_GROUPS)
    return tuple((totals * (NUM_INFLUENCE_GROUPS / (len(psi) * p.n)) ** 0.5).tolist())


def _jackknife_estimate(
    plain_value: float, p: IntervalInput, q: IntervalInput, on_step: Callable[[int, int], None]
) -> float:
    """Compute F - h(n) Σ (1 - m/n) (F₋ₘ - F) / Σ (1 - m/n) (h(n - m) - h(n)) over parts of m images left out of both inputs.

    For a bias h(n) proportional to 1/n this is the jackknife for groups of unequal size: J F - Σ (1 - m/n) F₋ₘ.
    """
    d = p.gaussian.mean.shape[0]
    gamma_1, gamma_2 = (_dims_per_image(each, d) for each in (p, q))
    bias = bias_shape(gamma_1, gamma_2, p.unit_skewness, q.unit_skewness)
    distance_change = bias_change = 0.0
    for step in range(NUM_DELETIONS):
        one, other = _leave_out(p, step), _leave_out(q, step)
        weight = 1 - max(one[1], other[1])
        rest = frechet_terms(one[0], other[0], tolerance=COARSE_TOLERANCE).total
        distance_change += weight * (rest - plain_value)
        left = bias_shape(gamma_1 / (1 - one[1]), gamma_2 / (1 - other[1]), p.unit_skewness, q.unit_skewness)
        bias_change += weight * (left - bias)
        on_step(step + 1, NUM_DELETIONS)
    return plain_value - bias * distance_change / bias_change


def bias_shape(gamma_1: float, gamma_2: float, skewness_1: float = 1.0, skewness_2: float = 1.0) -> float:
    """Compute how the bias of a squared Fréchet distance depends on the dimensions per image of both inputs, up to a factor.

    For a white Gaussian and γ = d/n, the expectation of tr √Σ̂ / d is ₂F₁(-½, ½; 2; γ) = 1 - γ/8 - γ²/64 - ..., the mean root of
    a Marchenko-Pastur variable. With two samples, the first order is (γ₁ + γ₂)/8, and the higher ones cancel for γ₁ = γ₂; they
    are taken to depend on |γ₁ - γ₂|. Units of unequal size have a third free cumulant r γ² instead of γ², which adds
    (r - 1) γ²/16 to the expectation.

    Args:
        gamma_1, gamma_2: number of dimensions per image, at most 1; 0 for a fixed distribution.
        skewness_1, skewness_2: r, the `IntervalInput.unit_skewness` of both inputs.
    """
    difference = min(abs(gamma_1 - gamma_2), 1.0)
    term, higher_orders = -difference / 8, 0.0
    for k in range(1, NUM_SERIES_TERMS):
        term *= (k - 0.5) * (k + 0.5) / ((k + 2) * (k + 1)) * difference
        higher_orders -= term
    unequal_units = ((skewness_1 - 1) * gamma_1**2 + (skewness_2 - 1) * gamma_2**2) / 16
    return (gamma_1 + gamma_2) / 8 + higher_orders - unequal_units


def _dims_per_image(p: IntervalInput, d: int) -> float:
    """Return γ = d/n, with the effective number of independent images; 0 for a fixed distribution."""
    n = p.n if p.n_units is None else p.n_units
    return 0.0 if p.groups is None or n is None else d / n


def _leave_out(p: IntervalInput, step: int) -> tuple[Gaussian, float]:
    """Return the Gaussian without one part of the images, and the share of these images; all of it if p is fixed."""
    if p.groups is None or p.n is None:
        return p.gaussian, 0.0
    removed = p.groups.merge_groups(range(step, len(p.groups), NUM_DELETIONS))
    return remove_moments(p.gaussian, p.n, removed), removed.n / p.n


def remove_moments(gaussian: Gaussian, n: int, removed: RunningMoments) -> Gaussian:
    """Compute the Gaussian of n images without some of them.

    The precision of its covariance is lower if these images had most of the variance, or if their moments were stored as
    float32.

    Args:
        gaussian: Gaussian of all images, with its covariance as a matrix.
        n: number of all images.
        removed: moments of the images that are left out, fewer than n - 1.
    """
    assert gaussian.covariance is not None
    rest = n - removed.n
    shift = (removed.mean - gaussian.mean) * (removed.n / rest)
    scatter = gaussian.covariance * (n - 1)
    scatter -= removed.scatter
    scatter -= np.outer(shift, shift * (n * rest / removed.n)) if removed.n else 0.0
    left = Gaussian(gaussian.mean - shift, covariance=scatter / (rest - 1))
    error = FLOAT64_EPS * float(gaussian.trace) * (n - 1) + _FLOAT32_EPS * float(np.trace(removed.scatter))
    lost = error / max(float(left.trace) * (rest - 1), error) if error else 0.0
    return replace(left, covariance_eps=max(gaussian.covariance_eps, lost))


def _round_up(n: float) -> int:
    """Round up to two significant digits."""
    step = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // step) * step)
