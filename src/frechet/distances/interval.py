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

from frechet.distances.frechet import ROUGH, frechet_terms
from frechet.distances.gaussian import DOUBLE, Array, Normal, namespace_of
from frechet.distances.permutation_test import Equality, permutation_test
from frechet.distances.transport import Coupling, couple, influence, inverse_sums

GROUPS = 10
FEWEST = 1.5  # images per dimension, below which no correction can be trusted
ENOUGH = 8  # images per dimension, from which the analytic bias is as good as the jackknife's
PAIRS = 4096  # of images, for the mean square of the second derivative
SHARED = 64  # groups of the second side, over which ψ₂ is averaged: its variance is known to √(2/64)
NORMAL_95 = 1.959964
EQUAL = 0.05  # of p-values, above which two sides are not told apart


@dataclass(frozen=True)
class Side:
    """One side of a comparison and what is known of its sampling.

    Attributes:
        normal: its Gaussian, with its covariance as a matrix.
        n: images behind it, or None.
        rows: (k, d) features of some of the images, or of all of them (k = n), or None.
    """

    normal: Normal
    n: int | None
    rows: Array | None = None

    @property
    def complete(self) -> bool:
        """Whether every image's features are at hand."""
        return self.rows is not None and self.rows.shape[0] == self.n

    @property
    def jackknifed(self) -> bool:
        """Whether its bias is found by leaving images out."""
        return self.complete and self.n is not None and self.n < ENOUGH * self.normal.mean.shape[0]


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

    corrected: float
    standard_error: float
    low: float
    high: float
    method: str
    variances: tuple[float, float]
    p_equal: float | None = None
    groups: tuple[float, ...] | None = None

    def halved_by(self, n: int | None, m: int | None) -> tuple[int | None, int | None]:
        """About how many images a side would halve the interval: of p alone where q's share is small, else of both.

        Its width falls with √n; where the two sides are not told apart, d² is a square of what falls so, and it falls with n.
        """
        first, second, times = (*self.variances, 4)
        if n and m and self.p_equal is not None and self.p_equal > EQUAL:
            first, second, times = 1 / n, 1 / m, 2
        wanted = (first + second) / times
        if n is not None and second < wanted / 2:
            return _rounded(n * first / (wanted - second)), m
        return tuple(None if size is None else _rounded(times * size) for size in (n, m))  # type: ignore[return-value]


def why_none(p: Side, q: Side) -> str | None:
    """Why no interval can be given, or None where one can."""
    d = p.normal.mean.shape[0]
    if p.n is None and q.n is None:
        return "neither side says how many images it was made from"
    fewest = max(3, int(-(-FEWEST * d // 1)))  # one left out, two have a covariance
    for side in (p, q):
        if side.n is not None and side.n < fewest:
            return f"an interval needs at least {FEWEST} images a dimension on each side: {fewest}, not {side.n}"
    return None


def interval(p: Side, q: Side, *, seed: int = 0, done: Callable[[int, int], None] = lambda *_: None) -> Interval:
    """The corrected squared distance between what p and q were drawn from, with its 95 % interval.

    Args:
        p, q: the two sides; `why_none` says None of them.
        seed: of the groups that the jackknife leaves out, and of permutations.
        done: called with (steps done, steps in all).
    """
    plain = frechet_terms(p.normal, q.normal, rounding=ROUGH).total
    coupling = couple(p.normal, q.normal)
    sides = ((p, q.normal, coupling), (q, p.normal, coupling.swapped()))
    effects = [_effects(*side) for side in sides]
    variances = _halved_noise(
        [_variance(*side, psi) for side, psi in zip(sides, effects, strict=True)], p, q, coupling, seed
    )
    bias = sum(_analytic_bias(side, way) for side, _, way in sides if not side.jackknifed)
    if p.jackknifed or q.jackknifed:
        bias += plain - _jackknifed(plain, p, q, seed, done)
    corrected, error = plain - bias, sum(variances) ** 0.5
    found = Interval(
        corrected,
        error,
        max(0.0, corrected - NORMAL_95 * error),
        max(0.0, corrected + NORMAL_95 * error + _skew(corrected, error)),
        _method(p, q),
        variances,
        groups=_in_groups(q, effects[1]),
    )
    if found.low > 0 or not (p.complete and q.complete):
        return found
    assert p.rows is not None
    assert q.rows is not None
    return _where_equal(found, plain, permutation_test(p.rows, q.rows, seed=seed, done=done))


def _skew(corrected: float, error: float) -> float:
    """How much further the upper end lies: Var ψ grows with d², so that √d² is what errs alike on both sides."""
    return (NORMAL_95 * error) ** 2 / (4 * max(corrected, error)) if error else 0.0


def _effects(side: Side, other: Normal, coupling: Coupling) -> Array | None:
    """ψ of a side's rows, or None where it has none or nobody knows how many images it stands for."""
    if side.n is None or side.rows is None:
        return None
    return influence(_double(side.rows), side.normal, other, coupling).total


def _variance(side: Side, other: Normal, coupling: Coupling, psi: Array | None) -> float:
    """Var ψ / n of one side; 0 where nothing is known of its sampling."""
    if side.n is None:
        return 0.0
    if psi is None:
        return _gaussian_variance(side.normal, other, coupling) / side.n
    xp = namespace_of(psi)
    return float(xp.mean((psi - xp.mean(psi)) ** 2)) / (side.n - 1)


def _in_groups(side: Side, psi: Array | None) -> tuple[float, ...] | None:
    """ψ averaged over `SHARED` random groups of the side's images, the same for whatever it is compared with."""
    if psi is None or side.n is None or psi.shape[0] < 2 * SHARED:
        return None
    order = np.random.default_rng(0).permutation(psi.shape[0])
    scale = (psi.shape[0] / (SHARED * side.n)) ** 0.5
    return tuple(float(namespace_of(psi).mean(psi[group])) * scale for group in np.array_split(order, SHARED))


def _halved_noise(variances: list[float], p: Side, q: Side, coupling: Coupling, seed: int) -> tuple[float, float]:
    """Var ψ₁/n₁ and Var ψ₂/n₂ without what they count twice.

    ψ is itself estimated, (1/n) Σⱼ h(x, xⱼ) away from the true one, h being the second derivative of d². That noise adds
    E h²/n² to the two variances, but only half of it to the distance's own (as in every degenerate U-statistic).
    """
    twice = [0.0, 0.0]
    random = np.random.default_rng(seed)
    for side, other, mine, sign in ((p, p, 0, 1), (q, q, 1, 1), (p, q, None, -1)):
        if side.rows is None or other.rows is None or not side.n or not other.n:
            continue
        noise = _mean_square_of_h(side, other, p, coupling, sign, random) / (side.n * other.n)
        for i in (0, 1) if mine is None else (mine,):
            twice[i] += noise
    first, second = (max(v - t / 2, v / 2) for v, t in zip(variances, twice, strict=True))
    return first, second


def _mean_square_of_h(
    one: Side, other: Side, p: Side, coupling: Coupling, sign: int, random: np.random.Generator
) -> float:
    """E h(x, x′)² over pairs of different images.

    h = 2 z·z′ + Σᵢⱼ (zᵢzⱼ - sᵢδᵢⱼ)(z′ᵢz′ⱼ - sᵢδᵢⱼ) / (sᵢ + sⱼ) on one side; across, -2 y·y′ - the same sum.
    """
    assert one.rows is not None
    assert other.rows is not None
    k, m = one.rows.shape[0], other.rows.shape[0]
    pairs = min(k, m, PAIRS)
    left = random.permutation(k)[:pairs]
    right = (left + random.integers(1, k, pairs)) % k if one is other else random.permutation(m)[:pairs]
    x, y = _double(one.rows[left, :]) - one.normal.mean, _double(other.rows[right, :]) - other.normal.mean
    z = x @ (coupling.onto_q if one is p else coupling.onto_p).T
    w = y @ (coupling.onto_q if other is p else coupling.onto_p).T
    xp = namespace_of(z)
    products = z * w
    spread = xp.sum((products @ inverse_sums(coupling.roots)) * products, axis=1)
    spread = spread - (xp.sum(z**2, axis=1) + xp.sum(w**2, axis=1) - xp.sum(coupling.roots)) / 2
    along = 2 * xp.sum(products if sign > 0 else x * y, axis=1)
    return float(xp.mean((along + spread) ** 2))


def _gaussian_variance(normal: Normal, other: Normal, coupling: Coupling) -> float:
    """Var ψ of a Gaussian: 4 gᵀΣg + 2 tr((I-T)Σ(I-T)Σ), with W Σ Wᵀ = diag(roots)."""
    xp = namespace_of(normal.mean)
    gap = normal.mean - other.mean
    squares, along = xp.sum(normal.covariance**2), gap @ normal.covariance @ gap
    mixed = xp.sum((coupling.onto_q @ normal.covariance) ** 2)
    return max(0.0, float(4 * along + 2 * (squares - 2 * mixed + xp.sum(coupling.roots**2))))


def _analytic_bias(side: Side, coupling: Coupling) -> float:
    """b / n of one side, first order in 1/n; 0 where nothing is known of its sampling."""
    if side.n is None:
        return 0.0
    xp = namespace_of(side.normal.mean)
    roots = coupling.roots
    weights = inverse_sums(roots)
    if side.rows is None:  # of a Gaussian: Var(zᵢzⱼ) = sᵢsⱼ (1 + δᵢⱼ)
        spread = xp.sum(roots[:, None] * roots[None, :] * weights) + xp.sum(roots) / 2
    else:
        moved = ((_double(side.rows) - side.normal.mean) @ coupling.onto_q.T) ** 2
        fourth = moved.T @ moved / moved.shape[0]
        spread = xp.sum(fourth * weights) - xp.sum(roots) / 2
    return float(side.normal.trace + spread / 2) / side.n


def _jackknifed(plain: float, p: Side, q: Side, seed: int, done: Callable[[int, int], None]) -> float:
    """G F - Σ (1 - m/n) F₋g over G groups of m images, left out of both sides at once."""
    lead = p if p.jackknifed else q
    assert lead.n is not None
    random = np.random.default_rng(seed)
    left = [_leaving_out(side, random) if side.jackknifed else None for side in (p, q)]
    total = 0.0
    for step in range(GROUPS):
        one, other = ((side.normal, 0) if rest is None else next(rest) for side, rest in zip((p, q), left, strict=True))
        m = one[1] if p.jackknifed else other[1]
        total += (1 - m / lead.n) * frechet_terms(one[0], other[0], rounding=ROUGH).total
        done(step + 1, GROUPS)
    return GROUPS * plain - total


def _leaving_out(side: Side, random: np.random.Generator) -> Iterator[tuple[Normal, int]]:
    """The side without each group in turn, and how many images that left out."""
    assert side.rows is not None
    n, whole = side.rows.shape[0], side.normal
    for group in np.array_split(random.permutation(n), GROUPS):
        yield _without(side.rows[group, :], whole, n), len(group)


def _without(rows: Array, whole: Normal, n: int) -> Normal:
    """The Gaussian of n images less these rows, which may have been most of its spread: the rest is then known less well."""
    scatter = whole.covariance * (n - 1)
    centred = _double(rows) - whole.mean
    shift = namespace_of(centred).sum(centred, axis=0)
    rest = n - rows.shape[0]
    left = scatter - centred.T @ centred - shift[:, None] * (shift / rest)[None, :]
    found = Normal(whole.mean - shift / rest, covariance=left / (rest - 1))
    rounding = DOUBLE * float(whole.trace)
    lost = rounding / max(float(found.trace), rounding) if rounding else 0.0
    return replace(found, resolution=max(whole.resolution, lost))


def _where_equal(found: Interval, plain: float, equality: Equality) -> Interval:
    """The interval where both sides may be one distribution: ψ vanishes there, so permutations stand for it."""
    if equality.p_value <= EQUAL:
        return found._replace(p_equal=equality.p_value)
    high = max(0.0, plain - equality.mean) + NORMAL_95 * equality.deviation
    return found._replace(
        low=0.0,
        high=max(found.high, high),
        p_equal=equality.p_value,
        method=f"{found.method}; permutations of equal sets",
    )


def _method(p: Side, q: Side) -> str:
    one, other = _how(p), _how(q)
    return one if one == other else f"{one} (generated), {other} (reference)"


def _how(side: Side) -> str:
    if side.n is None:
        return "sampling left out"
    if side.jackknifed:
        return f"jackknife of {GROUPS} groups"
    return "analytic" if side.rows is not None else "analytic, as if Gaussian"


def _rounded(n: float) -> int:
    """To two figures, upwards."""
    step = 10 ** max(0, len(str(int(n))) - 2)
    return int(-(-n // step) * step)


def _double(rows: Array) -> Array:
    xp = namespace_of(rows)
    return xp.astype(rows, xp.float64)
