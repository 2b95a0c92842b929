"""Bias correction and 95 % confidence interval of a squared Fréchet distance.

The plain value exceeds the population value by about b₁/n₁ + b₂/n₂. The bias of each input is removed by one of two methods:

    jackknife   if all features are available: ten groups of images, defined by a seeded permutation, are left out in turn
                (Busing, Meijer & van der Leeden 1999)
    analytic    if a sample of the features, or only their number, is known: the second-order expansion
                b = tr Σ + ½ Σᵢⱼ Var(zᵢzⱼ) / (sᵢ + sⱼ),  z = W (x - μ)

The standard error is that of the influence function ψ: √(Var ψ₁/n₁ + Var ψ₂/n₂).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from frechet.distances.frechet import COARSE_TOLERANCE, frechet_terms
from frechet.distances.gaussian import FLOAT64_EPS, Array, Gaussian, get_namespace
from frechet.distances.permutation_test import PermutationTestResult, permutation_test
from frechet.distances.transport import Coupling, influence_function, inverse_sums, optimal_coupling

NUM_GROUPS = 10
MIN_IMAGES_PER_DIM = 1.5  # no correction is reliable with fewer images per feature dimension
ANALYTIC_IMAGES_PER_DIM = 8  # from as many images per dimension on, the analytic bias is as good as the jackknife's
MAX_PAIRS = 4096  # pairs of images that the mean square of the second derivative is estimated from
NUM_REFERENCE_GROUPS = 64  # groups of reference images for which ψ₂ is averaged; its variance is then known to √(2/64)
Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal: half the width of a 95 % interval in standard errors
SIGNIFICANCE_LEVEL = 0.05  # largest p-value (adjusted, where several are tested) that counts as a difference


@dataclass(frozen=True)
class IntervalInput:
    """One of the two inputs of a comparison, and what is known about its sampling.

    Attributes:
        gaussian: Gaussian of the features, with its covariance as a matrix.
        n: number of images, or None if unknown.
        rows: (r, d) features of a sample of the images, or of all of them (r = n), or None.
    """

    gaussian: Gaussian
    n: int | None
    rows: Float[Array, "r d"] | None = None

    @property
    def has_all_rows(self) -> bool:
        """Whether the features of every image are available."""
        return self.rows is not None and self.rows.shape[0] == self.n

    @property
    def uses_jackknife(self) -> bool:
        """Whether the bias is estimated by the jackknife."""
        return (
            self.has_all_rows and self.n is not None and self.n < ANALYTIC_IMAGES_PER_DIM * self.gaussian.mean.shape[0]
        )


class Interval(NamedTuple):
    """An estimate of the population value of a squared Fréchet distance, in squared feature units.

    Attributes:
        corrected_value: the bias-corrected value; may be negative.
        standard_error: standard error of the corrected value.
        low, high: 95 % confidence interval of the population value; never negative.
        method: description of the method.
        variance_components: Var ψ₁/n₁ and Var ψ₂/n₂, the contributions of both inputs to the squared standard error.
        permutation_p_value: p-value of the hypothesis of equal distributions, or None if the interval excludes 0.
        reference_groups: means of ψ₂ over groups of q's images, scaled so that their sample variance estimates Var ψ₂/n₂.
            Their covariance with those of another distance to the same q estimates how much the two distances vary
            together. None if q has no features.
    """

    corrected_value: float
    standard_error: float
    low: float
    high: float
    method: str
    variance_components: tuple[float, float]
    permutation_p_value: float | None = None
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
            first, second, factor = 1 / n, 1 / m, 2
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
    if p.n is None and q.n is None:
        return "neither input records the number of images it was computed from"
    fewest = max(3, int(-(-MIN_IMAGES_PER_DIM * d // 1)))  # leaving one image out has to leave two
    for each in (p, q):
        if each.n is not None and each.n < fewest:
            return (
                f"an interval needs at least {fewest:,} images per input ({MIN_IMAGES_PER_DIM} per feature dimension); got "
                f"{each.n:,}"
            )
    return None


def confidence_interval(
    p: IntervalInput, q: IntervalInput, *, seed: int = 0, on_step: Callable[[int, int], None] = lambda *_: None
) -> Interval:
    """Estimate the squared Fréchet distance between the distributions of two inputs, with a 95 % confidence interval.

    The bias is removed by the jackknife or by its second-order expansion (see the module). If the interval contains 0, where
    ψ vanishes, and all features are available, a permutation test takes its place.

    Args:
        p, q: the two inputs, for which `explain_unavailable_interval` returns None.
        seed: seed of the groups of the jackknife and of the permutations.
        on_step: called with (steps done, total steps).

    Returns:
        The corrected value, its standard error and its interval, in squared feature units.
    """
    plain_value = frechet_terms(p.gaussian, q.gaussian, tolerance=COARSE_TOLERANCE).total
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    directions = ((p, q.gaussian, coupling), (q, p.gaussian, coupling.swap()))
    influence_values = [_influence_values(*direction) for direction in directions]
    variance_components = _remove_double_counted_noise(
        [_sampling_variance(*direction, psi) for direction, psi in zip(directions, influence_values, strict=True)],
        p,
        q,
        coupling,
        seed,
    )
    bias = sum(_analytic_bias(each, its_coupling) for each, _, its_coupling in directions if not each.uses_jackknife)
    if p.uses_jackknife or q.uses_jackknife:
        bias += plain_value - _jackknife_estimate(plain_value, p, q, seed, on_step)
    corrected_value, error = plain_value - bias, sum(variance_components) ** 0.5
    interval = Interval(
        corrected_value,
        error,
        max(0.0, corrected_value - Z_95 * error),
        max(0.0, corrected_value + Z_95 * error + _upper_end_correction(corrected_value, error)),
        _describe_method(p, q),
        variance_components,
        reference_groups=_group_means(q, influence_values[1]),
    )
    if interval.low > 0 or not (p.has_all_rows and q.has_all_rows):
        return interval
    assert p.rows is not None
    assert q.rows is not None
    return _apply_permutation_test(interval, plain_value, permutation_test(p.rows, q.rows, seed=seed, on_step=on_step))


def _upper_end_correction(corrected_value: float, error: float) -> float:
    """Compute by how much the upper end is further away: Var ψ grows with d², so that the error of √d² is symmetric."""
    return (Z_95 * error) ** 2 / (4 * max(corrected_value, error)) if error else 0.0


def _influence_values(p: IntervalInput, q: Gaussian, coupling: Coupling) -> Float[Array, " r"] | None:
    """Compute ψ of p's rows, or return None if there are none or the number of images is unknown."""
    if p.n is None or p.rows is None:
        return None
    return influence_function(_to_float64(p.rows), p.gaussian, q, coupling).total


def _sampling_variance(p: IntervalInput, q: Gaussian, coupling: Coupling, psi: Float[Array, " r"] | None) -> float:
    """Compute Var ψ / n of p; 0 if n is unknown."""
    if p.n is None:
        return 0.0
    if psi is None:
        return _gaussian_influence_variance(p.gaussian, q, coupling) / p.n
    xp = get_namespace(psi)
    return float(xp.mean((psi - xp.mean(psi)) ** 2)) / (p.n - 1)


def _group_means(p: IntervalInput, psi: Float[Array, " r"] | None) -> tuple[float, ...] | None:
    """Average ψ over random groups of p's images, which are the same for every comparison."""
    if psi is None or p.n is None or psi.shape[0] < 2 * NUM_REFERENCE_GROUPS:
        return None
    order = np.random.default_rng(0).permutation(psi.shape[0])
    scale = (psi.shape[0] / (NUM_REFERENCE_GROUPS * p.n)) ** 0.5
    return tuple(
        float(get_namespace(psi).mean(psi[group])) * scale for group in np.array_split(order, NUM_REFERENCE_GROUPS)
    )


def _remove_double_counted_noise(
    variance_components: list[float], p: IntervalInput, q: IntervalInput, coupling: Coupling, seed: int
) -> tuple[float, float]:
    """Return Var ψ₁/n₁ and Var ψ₂/n₂ without the noise that they count twice.

    ψ is estimated, with an error (1/n) Σⱼ h(x, xⱼ), where h is the second derivative of d². This noise adds E h²/n² to the
    two variances, but only half of it to the variance of the distance (as for every degenerate U-statistic).
    """
    double_counted = [0.0, 0.0]
    random = np.random.default_rng(seed)
    for one, other, components, sign in ((p, p, (0,), 1), (q, q, (1,), 1), (p, q, (0, 1), -1)):
        if one.rows is None or other.rows is None or not one.n or not other.n:
            continue
        noise = _second_derivative_mean_square(one, other, p, coupling, sign, random) / (one.n * other.n)
        for i in components:
            double_counted[i] += noise
    first, second = (max(v - t / 2, v / 2) for v, t in zip(variance_components, double_counted, strict=True))
    return first, second


def _second_derivative_mean_square(
    one: IntervalInput,
    other: IntervalInput,
    p: IntervalInput,
    coupling: Coupling,
    sign: int,
    random: np.random.Generator,
) -> float:
    """Estimate E h(x, x′)² over pairs of different images.

    Within one input, h = 2 z·z′ + Σᵢⱼ (zᵢzⱼ - sᵢδᵢⱼ)(z′ᵢz′ⱼ - sᵢδᵢⱼ) / (sᵢ + sⱼ); between the two, h = -2 y·y′ minus that sum.

    Args:
        one, other: the inputs that x and x′ are drawn from.
        p: the first input of the comparison.
        coupling: the coupling of the two inputs.
        sign: 1 within one input, -1 between the two.
        random: generator of the pairs.
    """
    assert one.rows is not None
    assert other.rows is not None
    k, m = one.rows.shape[0], other.rows.shape[0]
    pairs = min(k, m, MAX_PAIRS)
    left = random.permutation(k)[:pairs]
    right = (left + random.integers(1, k, pairs)) % k if one is other else random.permutation(m)[:pairs]
    x, y = _to_float64(one.rows[left, :]) - one.gaussian.mean, _to_float64(other.rows[right, :]) - other.gaussian.mean
    z = x @ (coupling.onto_q if one is p else coupling.onto_p).T
    w = y @ (coupling.onto_q if other is p else coupling.onto_p).T
    xp = get_namespace(z)
    products = z * w
    spread = xp.sum((products @ inverse_sums(coupling.roots)) * products, axis=1)
    spread = spread - (xp.sum(z**2, axis=1) + xp.sum(w**2, axis=1) - xp.sum(coupling.roots)) / 2
    along = 2 * xp.sum(products if sign > 0 else x * y, axis=1)
    return float(xp.mean((along + spread) ** 2))


def _gaussian_influence_variance(gaussian: Gaussian, other: Gaussian, coupling: Coupling) -> float:
    """Compute Var ψ of a Gaussian: 4 gᵀΣg + 2 tr((I-T)Σ(I-T)Σ), with W Σ Wᵀ = diag(roots)."""
    assert gaussian.covariance is not None
    xp = get_namespace(gaussian.mean)
    mean_difference = gaussian.mean - other.mean
    squares, along = xp.sum(gaussian.covariance**2), mean_difference @ gaussian.covariance @ mean_difference
    mixed = xp.sum((coupling.onto_q @ gaussian.covariance) ** 2)
    return max(0.0, float(4 * along + 2 * (squares - 2 * mixed + xp.sum(coupling.roots**2))))


def _analytic_bias(p: IntervalInput, coupling: Coupling) -> float:
    """Compute the bias b / n due to p, to first order in 1/n; 0 if n is unknown."""
    if p.n is None:
        return 0.0
    xp = get_namespace(p.gaussian.mean)
    roots = coupling.roots
    weights = inverse_sums(roots)
    if p.rows is None:  # as if Gaussian: Var(zᵢzⱼ) = sᵢsⱼ (1 + δᵢⱼ)
        spread = xp.sum(roots[:, None] * roots[None, :] * weights) + xp.sum(roots) / 2
    else:
        moved = ((_to_float64(p.rows) - p.gaussian.mean) @ coupling.onto_q.T) ** 2
        fourth = moved.T @ moved / moved.shape[0]
        spread = xp.sum(fourth * weights) - xp.sum(roots) / 2
    return float(p.gaussian.trace + spread / 2) / p.n


def _jackknife_estimate(
    plain_value: float, p: IntervalInput, q: IntervalInput, seed: int, on_step: Callable[[int, int], None]
) -> float:
    """Compute G F - Σ (1 - m/n) F₋g over G groups of m images, which are left out of both inputs at once."""
    lead = p if p.uses_jackknife else q
    assert lead.n is not None
    random = np.random.default_rng(seed)
    left = [_iter_without_groups(each, random) if each.uses_jackknife else None for each in (p, q)]
    total = 0.0
    for step in range(NUM_GROUPS):
        one, other = (
            (each.gaussian, 0) if rest is None else next(rest) for each, rest in zip((p, q), left, strict=True)
        )
        m = one[1] if p.uses_jackknife else other[1]
        total += (1 - m / lead.n) * frechet_terms(one[0], other[0], tolerance=COARSE_TOLERANCE).total
        on_step(step + 1, NUM_GROUPS)
    return NUM_GROUPS * plain_value - total


def _iter_without_groups(p: IntervalInput, random: np.random.Generator) -> Iterator[tuple[Gaussian, int]]:
    """Iterate over the Gaussians without one group of images, and the sizes of the groups."""
    assert p.rows is not None
    n = p.rows.shape[0]
    for group in np.array_split(random.permutation(n), NUM_GROUPS):
        yield _remove_rows(p.rows[group, :], p.gaussian, n), len(group)


def _remove_rows(rows: Float[Array, "b d"], full_gaussian: Gaussian, n: int) -> Gaussian:
    """Compute the Gaussian of n images without b rows.

    The precision of its covariance is lower if these rows had most of the variance.
    """
    assert full_gaussian.covariance is not None
    scatter = full_gaussian.covariance * (n - 1)
    centered = _to_float64(rows) - full_gaussian.mean
    shift = get_namespace(centered).sum(centered, axis=0)
    rest = n - rows.shape[0]
    left = scatter - centered.T @ centered - shift[:, None] * (shift / rest)[None, :]
    gaussian = Gaussian(full_gaussian.mean - shift / rest, covariance=left / (rest - 1))
    tolerance = FLOAT64_EPS * float(full_gaussian.trace)
    lost = tolerance / max(float(gaussian.trace), tolerance) if tolerance else 0.0
    return replace(gaussian, covariance_eps=max(full_gaussian.covariance_eps, lost))


def _apply_permutation_test(interval: Interval, plain_value: float, test: PermutationTestResult) -> Interval:
    """Return the interval for distributions that may be equal, where ψ vanishes: from 0 to a bound from permutations."""
    if test.p_value <= SIGNIFICANCE_LEVEL:
        return interval._replace(permutation_p_value=test.p_value)
    high = max(0.0, plain_value - test.mean) + Z_95 * test.std
    return interval._replace(
        low=0.0,
        high=max(interval.high, high),
        permutation_p_value=test.p_value,
        method=f"{interval.method}; permutation test",
    )


def _describe_method(p: IntervalInput, q: IntervalInput) -> str:
    one, other = _describe_correction(p), _describe_correction(q)
    return one if one == other else f"{one} (generated), {other} (reference)"


def _describe_correction(p: IntervalInput) -> str:
    if p.n is None:
        return "sampling error not included"
    if p.uses_jackknife:
        return f"jackknife with {NUM_GROUPS} groups"
    return "analytic" if p.rows is not None else "analytic, assuming Gaussian features"


def _round_up(n: float) -> int:
    """Round up to two significant digits."""
    step = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // step) * step)


def _to_float64(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    xp = get_namespace(rows)
    return xp.astype(rows, xp.float64)
