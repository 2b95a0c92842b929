"""Bias correction and 95 % confidence interval of a squared Fréchet distance.

The plain value exceeds the population value by about b₁/n₁ + b₂/n₂. A jackknife removes this bias: groups of images are left
out in turn (Busing, Meijer & van der Leeden 1999). It needs only the moments of the groups, and is valid for dependent images
if all images of one sampling unit (pair, cluster, duplicates) are in the same group.

The standard error is that of the influence function ψ, summed over the images of each sampling unit: √(Var ψ₁/n₁ + Var ψ₂/n₂)
for independent images. As for every jackknife, it is a little too large rather than too small (Efron & Stein 1981).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from frechet.distances.frechet import COARSE_TOLERANCE, frechet_terms
from frechet.distances.image_weights import weight_skewness
from frechet.distances.interval_input import NUM_DELETIONS, IntervalInput
from frechet.distances.permutation_test import swap_test
from frechet.distances.sampling_error import Z_95, SamplingError, sampling_error, sampling_error_of_pairs
from frechet.distances.transport import optimal_coupling, squared_frechet_distance
from frechet.statistics.group_moments import MIN_IMAGES_PER_DIM

MIN_UNITS = 50  # independent images, pairs or clusters; with fewer, a group may be empty
NUM_SERIES_TERMS = 30  # of the hypergeometric series of the bias; at γ = 1, it is then accurate to 1e-4
SIGNIFICANCE_LEVEL = 0.05  # largest p-value (adjusted, where several are tested) that counts as a difference
_ROUNDING = 1e-10  # of the total variance: a distance that is not larger cannot be distinguished from 0


class Interval(NamedTuple):
    """An estimate of the population value of a squared Fréchet distance, in squared feature units.

    Attributes:
        corrected_value: the bias-corrected value; may be negative.
        standard_error: standard error of the corrected value.
        low, high: confidence interval of the population value, of 95 % unless stated otherwise; never negative.
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


class DistanceEstimate(NamedTuple):
    """An estimate of the population value of a squared Fréchet distance, and what its interval of any confidence needs.

    Attributes:
        corrected_value: the bias-corrected value; may be negative.
        other_values: the value for other assumptions on the higher orders of the bias, to which an interval extends.
        errors: the sampling error of the corrected value.
        rounding: size of the rounding error.
    """

    corrected_value: float
    other_values: tuple[float, ...]
    errors: SamplingError
    rounding: float

    def interval(self, z: float = Z_95) -> Interval:
        """Compute the interval.

        Args:
            z: half its width in standard errors, before its ends are corrected: 1.96 for a confidence of 95 %.
        """
        values, error = (self.corrected_value, *self.other_values), self.errors.standard_error
        below, above = self.errors.quantiles(z)
        high = max(0.0, *values) + above * error + _upper_end_correction(self.corrected_value, error, z)
        return Interval(
            self.corrected_value,
            error,
            max(0.0, min(values) - below * error - self.rounding),
            max(high, self.corrected_value + self.errors.upper_quantile_with_curvature(z) * error),
            f"jackknife with {NUM_DELETIONS} groups",
            self.errors.variance_components,
            generated_groups=self.errors.generated_groups,
            reference_groups=self.errors.reference_groups,
        )


def _upper_end_correction(corrected_value: float, error: float, z: float) -> float:
    """Compute by how much the upper end is further away if the error of √d² is symmetric, as if only the means differed."""
    return (z * error) ** 2 / (4 * max(corrected_value, error)) if error else 0.0


def explain_unavailable_interval(p: IntervalInput, q: IntervalInput) -> str | None:
    """Return the reason why no confidence interval can be computed, or None if one can.

    Args:
        p, q: the two inputs.
    """
    sampled = {"generated": p, **({"reference": q} if q.groups is not None else {})}
    if problem := explain_too_few_images(sampled):
        return problem
    if p.groups is None or p.rows is None:
        return (
            "the generated statistics contain neither the features of every image nor moments of groups of images, from "
            "which an interval is computed; score the images, or write the statistics again with frechet stats"
        )
    for name, each in (("generated", p), ("reference", q)):
        if each.groups is not None and each.rows is not None and len(each.rows) < MIN_UNITS:
            return (
                f"the features of at least {MIN_UNITS} images per input are required; the {name} statistics contain "
                f"{len(each.rows)}; write them again with frechet stats"
            )
    return None


def fewest_units(dims: int) -> int:
    """Return the smallest number of independent images, pairs or clusters with d features of which an interval is computed."""
    return max(MIN_UNITS, int(-(-MIN_IMAGES_PER_DIM * dims // 1)))


def explain_too_few_images(sampled: Mapping[str, IntervalInput]) -> str | None:
    """Return the required number of images if an input has fewer, or None.

    Args:
        sampled: inputs with a sampling error, by name.
    """
    fewest = fewest_units(next(iter(sampled.values())).gaussian.mean.shape[0])
    units = {name: each.n if each.n_units is None else each.n_units for name, each in sampled.items()}
    if any(n is not None and n < fewest for n in units.values()):
        independent = "" if all(units[name] == each.n for name, each in sampled.items()) else "independent "
        facts = [f"{MIN_IMAGES_PER_DIM} per feature dimension"] if fewest > MIN_UNITS else []
        facts += ["clusters and duplicates count as fewer"] if independent else []
        note = f" ({'; '.join(facts)})" if facts else ""
        given = " and ".join(f"{n:,} {name}" for name, n in units.items() if n is not None)
        return f"at least {fewest:,} {independent}images per input are required{note}; got {given}"
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
    interval = estimate_distance(p, q, paired=paired, on_step=on_step).interval()
    if interval.low > 0:
        return interval
    p_value = swap_test(p.gaussian, p.groups, q.gaussian, q.groups)
    low = interval.low if p_value <= SIGNIFICANCE_LEVEL else 0.0
    return interval._replace(low=low, permutation_p_value=p_value, method=f"{interval.method}; permutation test")


def estimate_distance(
    p: IntervalInput,
    q: IntervalInput,
    *,
    paired: bool = False,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> DistanceEstimate:
    """Estimate the squared Fréchet distance between the distributions of two inputs, and its sampling error.

    Args:
        p, q, paired, on_step: as in `confidence_interval`.
    """
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    plain_value = float(squared_frechet_distance(p.gaussian, q.gaussian, coupling))
    skewness = (1.0, 1.0) if paired else (weight_skewness(p), weight_skewness(q))
    corrected_value, *others = _jackknife_estimates(plain_value, p, q, skewness, on_step)
    errors = (sampling_error_of_pairs if paired else sampling_error)(p, q, coupling)
    rounding = _ROUNDING * float(p.gaussian.trace + q.gaussian.trace)
    return DistanceEstimate(corrected_value, tuple(others), errors, rounding)


def _jackknife_estimates(
    plain_value: float,
    p: IntervalInput,
    q: IntervalInput,
    skewness: tuple[float, float],
    on_step: Callable[[int, int], None],
) -> list[float]:
    """Compute F - h(n) Σ (1 - m/n) (F₋ₘ - F) / Σ (1 - m/n) (h(n - m) - h(n)) over parts of m images left out of both inputs.

    For a bias h(n) proportional to 1/n this is the jackknife for groups of unequal size: J F - Σ (1 - m/n) F₋ₘ.

    Returns:
        The estimate for each shape h of `_bias_shapes`.
    """
    biases = _bias_shapes(p, q, skewness, 0.0, 0.0)
    distance_change, bias_changes = 0.0, np.zeros_like(biases)
    for step in range(NUM_DELETIONS):
        one, other = p.leave_out(step), q.leave_out(step)
        weight = 1 - max(one[1], other[1])
        rest = frechet_terms(one[0], other[0], tolerance=COARSE_TOLERANCE).total
        distance_change += weight * (rest - plain_value)
        bias_changes += weight * (_bias_shapes(p, q, skewness, one[1], other[1]) - biases)
        on_step(step + 1, NUM_DELETIONS)
    estimates: list[float] = (plain_value - biases * distance_change / bias_changes).tolist()
    return estimates


def _bias_shapes(
    p: IntervalInput, q: IntervalInput, skewness: tuple[float, float], p_left_out: float, q_left_out: float
) -> Float[np.ndarray, " s"]:
    """Compute the shape of the bias without these shares of the images, under different assumptions on its higher orders.

    The first is that of white Gaussian images, which the corrected value is for. The second one has no higher orders. The
    third one is that of white images whose lengths vary as much as those of the inputs (`weight_skewness`).
    """
    gammas = p.dims_per_image / (1 - p_left_out), q.dims_per_image / (1 - q_left_out)
    of_units = p.unit_skewness, q.unit_skewness
    of_images = of_units[0] * skewness[0], of_units[1] * skewness[1]
    return np.array(
        [bias_shape(*gammas, *of_units), bias_shape(*gammas, *of_units, share=0.0), bias_shape(*gammas, *of_images)]
    )


def bias_shape(
    gamma_1: float, gamma_2: float, skewness_1: float = 1.0, skewness_2: float = 1.0, *, share: float = 1.0
) -> float:
    """Compute how the bias of a squared Fréchet distance depends on the dimensions per image of both inputs, up to a factor.

    For a white Gaussian and γ = d/n, the expectation of tr √Σ̂ / d is ₂F₁(-½, ½; 2; γ) = 1 - γ/8 - γ²/64 - ..., the mean root of
    a Marchenko-Pastur variable. With two samples, the first order is (γ₁ + γ₂)/8, and the higher ones cancel for γ₁ = γ₂; they
    are taken to depend on |γ₁ - γ₂|. They are smaller if the spectra of both inputs differ. Units of unequal size, or images of
    unequal length, have a third free cumulant r γ² instead of γ², which adds (r - 1) γ²/16 to the expectation: γ/8 becomes
    γ/8 - (r - 1) γ²/16, the first terms of γ / (8 + 4 (r - 1) γ), which increases with γ for every r.

    Args:
        gamma_1, gamma_2: number of dimensions per image, at most 1; 0 for a fixed distribution.
        skewness_1, skewness_2: r of both inputs, 1 or more (`IntervalInput.unit_skewness`, `weight_skewness`).
        share: factor of the higher orders, 0 to 1.
    """
    difference = min(abs(gamma_1 - gamma_2), 1.0)
    term, higher_orders = -difference / 8, 0.0
    for k in range(1, NUM_SERIES_TERMS):
        term *= (k - 0.5) * (k + 0.5) / ((k + 2) * (k + 1)) * difference
        higher_orders -= term
    first = gamma_1 / (8 + 4 * (skewness_1 - 1) * gamma_1)
    second = gamma_2 / (8 + 4 * (skewness_2 - 1) * gamma_2)
    return first + second + share * higher_orders


def _round_up(n: float) -> int:
    """Round up to two significant digits."""
    step = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // step) * step)
