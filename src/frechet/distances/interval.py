"""How far a squared Fréchet distance is from the truth: its bias removed, and an interval that covers the truth.

The plain value is too large by about b₁/n₁ + b₂/n₂. Each side's part is removed by what is known of it:

    jackknife   all features of a side are at hand: ten groups of images, by a seeded permutation, are left out in turn
                (Busing, Meijer & van der Leeden 1999)
    analytic    a sample of its features (or, of a Gaussian, its size alone) is known: the second-order expansion
                b = tr Σ + ½ Σᵢⱼ Var(zᵢzⱼ) / (sᵢ + sⱼ),  z = W (x - μ)

The standard error is that of the influence function ψ: √(Var ψ₁/n₁ + Var ψ₂/n₂).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from frechet.distances.frechet import COARSE_TOLERANCE, frechet_terms
from frechet.distances.gaussian import FLOAT64_EPS, Array, Gaussian, get_namespace
from frechet.distances.permutation_test import PermutationTestResult, permutation_test
from frechet.distances.transport import Coupling, influence_function, inverse_sums, optimal_coupling

NUM_GROUPS = 10
MIN_IMAGES_PER_DIM = 1.5  # images per dimension, below which no correction can be trusted
ANALYTIC_IMAGES_PER_DIM = 8  # images per dimension, from which the analytic bias is as good as the jackknife's
MAX_PAIRS = 4096  # of images, for the mean square of the second derivative
NUM_REFERENCE_GROUPS = 64  # groups of the second side, over which ψ₂ is averaged: its variance is known to √(2/64)
Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal: half the width of a 95 % interval in standard errors
SIGNIFICANCE_LEVEL = 0.05  # largest p-value (adjusted, where several are tested) that counts as a difference


@dataclass(frozen=True)
class IntervalInput:
    """One side of a comparison and what is known of its sampling.

    Attributes:
        normal: its Gaussian, with its covariance as a matrix.
        n: images behind it, or None.
        rows: (k, d) features of some of the images, or of all of them (k = n), or None.
    """

    gaussian: Gaussian
    n: int | None
    rows: Array | None = None

    @property
    def has_all_rows(self) -> bool:
        """Whether every image's features are at hand."""
        return self.rows is not None and self.rows.shape[0] == self.n

    @property
    def uses_jackknife(self) -> bool:
        """Whether its bias is found by leaving images out."""
        return (
            self.has_all_rows and self.n is not None and self.n < ANALYTIC_IMAGES_PER_DIM * self.gaussian.mean.shape[0]
        )


class Interval(NamedTuple):
    """What a plain value says about the truth, in squared feature units.

    Attributes:
        corrected: without the bias of few images; may be negative.
        standard_error: of `corrected`.
        low, high: 95 % interval of the truth, which is never negative.
        method: how, in words.
        variances: Var ψ₁/n₁, Var ψ₂/n₂: what each side adds to the squared standard error.
        p_equal: p-value of both sides having one distribution, where that was in question, or None.
        groups: ψ₂ averaged over groups of q's images and scaled so that their sample variance estimates Var ψ₂/n₂; two
            distances to the same q then err together by the covariance of theirs. None where q has no rows.
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
        """About how many images a side would halve the interval: of p alone where q's share is small, else of both.

        Its width falls with √n; where the two sides are not told apart, d² is a square of what falls so, and it falls with n.
        """
        first, second, times = (*self.variance_components, 4)
        if n and m and self.permutation_p_value is not None and self.permutation_p_value > SIGNIFICANCE_LEVEL:
            first, second, times = 1 / n, 1 / m, 2
        wanted = (first + second) / times
        if n is not None and second < wanted / 2:
            return _round_up(n * first / (wanted - second)), m
        return tuple(None if size is None else _round_up(times * size) for size in (n, m))  # type: ignore[return-value]


def explain_unavailable_interval(p: IntervalInput, q: IntervalInput) -> str | None:
    """Why no interval can be given, or None where one can."""
    d = p.gaussian.mean.shape[0]
    if p.n is None and q.n is None:
        return "neither side says how many images it was made from"
    fewest = max(3, int(-(-MIN_IMAGES_PER_DIM * d // 1)))  # one left out, two have a covariance
    for side in (p, q):
        if side.n is not None and side.n < fewest:
            return f"an interval needs at least {MIN_IMAGES_PER_DIM} images a dimension on each side: {fewest}, not {side.n}"
    return None


def confidence_interval(
    p: IntervalInput, q: IntervalInput, *, seed: int = 0, on_step: Callable[[int, int], None] = lambda *_: None
) -> Interval:
    """The corrected squared distance between what p and q were drawn from, with its 95 % interval.

    Args:
        p, q: the two sides; `why_none` says None of them.
        seed: of the groups that the jackknife leaves out, and of permutations.
        done: called with (steps done, steps in all).
    """
    plain_value = frechet_terms(p.gaussian, q.gaussian, tolerance=COARSE_TOLERANCE).total
    coupling = optimal_coupling(p.gaussian, q.gaussian)
    sides = ((p, q.gaussian, coupling), (q, p.gaussian, coupling.swap()))
    influence_values = [_influence_values(*side) for side in sides]
    variance_components = _remove_double_counted_noise(
        [_sampling_variance(*side, psi) for side, psi in zip(sides, influence_values, strict=True)],
        p,
        q,
        coupling,
        seed,
    )
    bias = sum(_analytic_bias(side, side_coupling) for side, _, side_coupling in sides if not side.uses_jackknife)
    if p.uses_jackknife or q.uses_jackknife:
        bias += plain_value - _jackknife_estimate(plain_value, p, q, seed, on_step)
    corrected_value, error = plain_value - bias, sum(variance_components) ** 0.5
    found = Interval(
        corrected_value,
        error,
        max(0.0, corrected_value - Z_95 * error),
        max(0.0, corrected_value + Z_95 * error + _skew(corrected_value, error)),
        _describe_method(p, q),
        variance_components,
        reference_groups=_group_means(q, influence_values[1]),
    )
    if found.low > 0 or not (p.has_all_rows and q.has_all_rows):
        return found
    assert p.rows is not None
    assert q.rows is not None
    return _apply_permutation_test(found, plain_value, permutation_test(p.rows, q.rows, seed=seed, on_step=on_step))


def _skew(corrected_value: float, error: float) -> float:
    """How much further the upper end lies: Var ψ grows with d², so that √d² is what errs alike on both sides."""
    return (Z_95 * error) ** 2 / (4 * max(corrected_value, error)) if error else 0.0


def _influence_values(side: IntervalInput, other: Gaussian, coupling: Coupling) -> Array | None:
    """ψ of a side's rows, or None where it has none or nobody knows how many images it stands for."""
    if side.n is None or side.rows is None:
        return None
    return influence_function(_to_float64(side.rows), side.gaussian, other, coupling).total


def _sampling_variance(side: IntervalInput, other: Gaussian, coupling: Coupling, psi: Array | None) -> float:
    """Var ψ / n of one side; 0 where nothing is known of its sampling."""
    if side.n is None:
        return 0.0
    if psi is None:
        return _gaussian_influence_variance(side.gaussian, other, coupling) / side.n
    xp = get_namespace(psi)
    return float(xp.mean((psi - xp.mean(psi)) ** 2)) / (side.n - 1)


def _group_means(side: IntervalInput, psi: Array | None) -> tuple[float, ...] | None:
    """ψ averaged over `SHARED` random groups of the side's images, the same for whatever it is compared with."""
    if psi is None or side.n is None or psi.shape[0] < 2 * NUM_REFERENCE_GROUPS:
        return None
    order = np.random.default_rng(0).permutation(psi.shape[0])
    scale = (psi.shape[0] / (NUM_REFERENCE_GROUPS * side.n)) ** 0.5
    return tuple(
        float(get_namespace(psi).mean(psi[group])) * scale for group in np.array_split(order, NUM_REFERENCE_GROUPS)
    )


def _remove_double_counted_noise(
    variance_components: list[float], p: IntervalInput, q: IntervalInput, coupling: Coupling, seed: int
) -> tuple[float, float]:
    """Var ψ₁/n₁ and Var ψ₂/n₂ without what they count twice.

    ψ is itself estimated, (1/n) Σⱼ h(x, xⱼ) away from the true one, h being the second derivative of d². That noise adds
    E h²/n² to the two variances, but only half of it to the distance's own (as in every degenerate U-statistic).
    """
    double_counted = [0.0, 0.0]
    random = np.random.default_rng(seed)
    for side, other, mine, sign in ((p, p, 0, 1), (q, q, 1, 1), (p, q, None, -1)):
        if side.rows is None or other.rows is None or not side.n or not other.n:
            continue
        noise = _second_derivative_mean_square(side, other, p, coupling, sign, random) / (side.n * other.n)
        for i in (0, 1) if mine is None else (mine,):
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
    """E h(x, x′)² over pairs of different images.

    h = 2 z·z′ + Σᵢⱼ (zᵢzⱼ - sᵢδᵢⱼ)(z′ᵢz′ⱼ - sᵢδᵢⱼ) / (sᵢ + sⱼ) on one side; across, -2 y·y′ - the same sum.
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
    """Var ψ of a Gaussian: 4 gᵀΣg + 2 tr((I-T)Σ(I-T)Σ), with W Σ Wᵀ = diag(roots)."""
    xp = get_namespace(gaussian.mean)
    mean_difference = gaussian.mean - other.mean
    squares, along = xp.sum(gaussian.covariance**2), mean_difference @ gaussian.covariance @ mean_difference
    mixed = xp.sum((coupling.onto_q @ gaussian.covariance) ** 2)
    return max(0.0, float(4 * along + 2 * (squares - 2 * mixed + xp.sum(coupling.roots**2))))


def _analytic_bias(side: IntervalInput, coupling: Coupling) -> float:
    """b / n of one side, first order in 1/n; 0 where nothing is known of its sampling."""
    if side.n is None:
        return 0.0
    xp = get_namespace(side.gaussian.mean)
    roots = coupling.roots
    weights = inverse_sums(roots)
    if side.rows is None:  # of a Gaussian: Var(zᵢzⱼ) = sᵢsⱼ (1 + δᵢⱼ)
        spread = xp.sum(roots[:, None] * roots[None, :] * weights) + xp.sum(roots) / 2
    else:
        moved = ((_to_float64(side.rows) - side.gaussian.mean) @ coupling.onto_q.T) ** 2
        fourth = moved.T @ moved / moved.shape[0]
        spread = xp.sum(fourth * weights) - xp.sum(roots) / 2
    return float(side.gaussian.trace + spread / 2) / side.n


def _jackknife_estimate(
    plain_value: float, p: IntervalInput, q: IntervalInput, seed: int, on_step: Callable[[int, int], None]
) -> float:
    """G F - Σ (1 - m/n) F₋g over G groups of m images, left out of both sides at once."""
    lead = p if p.uses_jackknife else q
    assert lead.n is not None
    random = np.random.default_rng(seed)
    left = [_iter_without_groups(side, random) if side.uses_jackknife else None for side in (p, q)]
    total = 0.0
    for step in range(NUM_GROUPS):
        one, other = (
            (side.gaussian, 0) if rest is None else next(rest) for side, rest in zip((p, q), left, strict=True)
        )
        m = one[1] if p.uses_jackknife else other[1]
        total += (1 - m / lead.n) * frechet_terms(one[0], other[0], tolerance=COARSE_TOLERANCE).total
        on_step(step + 1, NUM_GROUPS)
    return NUM_GROUPS * plain_value - total


def _iter_without_groups(side: IntervalInput, random: np.random.Generator) -> Iterator[tuple[Gaussian, int]]:
    """The side without each group in turn, and how many images that left out."""
    assert side.rows is not None
    n, full_gaussian = side.rows.shape[0], side.gaussian
    for group in np.array_split(random.permutation(n), NUM_GROUPS):
        yield _remove_rows(side.rows[group, :], full_gaussian, n), len(group)


def _remove_rows(rows: Array, full_gaussian: Gaussian, n: int) -> Gaussian:
    """The Gaussian of n images less these rows, which may have been most of its spread: the rest is then known less well."""
    scatter = full_gaussian.covariance * (n - 1)
    centered = _to_float64(rows) - full_gaussian.mean
    shift = get_namespace(centered).sum(centered, axis=0)
    rest = n - rows.shape[0]
    left = scatter - centered.T @ centered - shift[:, None] * (shift / rest)[None, :]
    found = Gaussian(full_gaussian.mean - shift / rest, covariance=left / (rest - 1))
    tolerance = FLOAT64_EPS * float(full_gaussian.trace)
    lost = tolerance / max(float(found.trace), tolerance) if tolerance else 0.0
    return replace(found, covariance_eps=max(full_gaussian.covariance_eps, lost))


def _apply_permutation_test(found: Interval, plain_value: float, equality: PermutationTestResult) -> Interval:
    """The interval where both sides may be one distribution: ψ vanishes there, so permutations stand for it."""
    if equality.p_value <= SIGNIFICANCE_LEVEL:
        return found._replace(permutation_p_value=equality.p_value)
    high = max(0.0, plain_value - equality.mean) + Z_95 * equality.std
    return found._replace(
        low=0.0,
        high=max(found.high, high),
        permutation_p_value=equality.p_value,
        method=f"{found.method}; permutations of equal sets",
    )


def _describe_method(p: IntervalInput, q: IntervalInput) -> str:
    one, other = _describe_correction(p), _describe_correction(q)
    return one if one == other else f"{one} (generated), {other} (reference)"


def _describe_correction(side: IntervalInput) -> str:
    if side.n is None:
        return "sampling left out"
    if side.uses_jackknife:
        return f"jackknife of {NUM_GROUPS} groups"
    return "analytic" if side.rows is not None else "analytic, as if Gaussian"


def _round_up(n: float) -> int:
    """To two figures, upwards."""
    step = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // step) * step)


def _to_float64(rows: Array) -> Array:
    xp = get_namespace(rows)
    return xp.astype(rows, xp.float64)
