"""The squared Fréchet distance between two Gaussians, exact for singular covariances (Dowson & Landau 1982).

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂)

The last term is a nuclear norm: with Σ = CᵀC, tr √(Σ₁Σ₂) = ‖C₁C₂ᵀ‖_*. No square root of a matrix is ever formed and
nothing is added to a diagonal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from frechet.distances.gaussian import DOUBLE, Array, Normal, namespace_of, require_semidefinite, times_factor
from frechet.errors import Mismatch, StatisticsError

SETTLED = 1e-10  # the rounding that the fast route may bring, relative to tr Σ₁ + tr Σ₂
SMALLEST, LARGEST = 1e-280, 1e300  # products of variances that leave room for rounding in float64
ROUGH = 1e-8  # where distances are only averaged, to learn how far one of them may be from the truth


class Terms(NamedTuple):
    """The two parts of a squared Fréchet distance, in squared feature units."""

    mean: float
    covariance: float

    @property
    def total(self) -> float:
        """The distance."""
        return self.mean + self.covariance


def frechet_terms(p: Normal, q: Normal, *, rounding: float = SETTLED) -> Terms:
    """The squared Fréchet distance between p and q, as its two parts.

    Args:
        p, q: of the same dimension.
        rounding: what is allowed of it, relative to tr Σ₁ + tr Σ₂, by an estimate that is far on the safe side.

    Raises:
        Mismatch: they differ in dimension.
        StatisticsError: their variances are so small or large that products of them leave float64.
    """
    require_same_dims(p, q)
    _require_held(float(p.trace), float(q.trace))
    gap, traces = p.mean - q.mean, p.trace + q.trace
    spread = float(traces - 2 * trace_of_root(p, q, rounding))
    return Terms(float(gap @ gap), 0.0 if -rounding * float(traces) < spread < 0 else spread)


def require_same_dims(p: Normal, q: Normal) -> None:
    """Raises: Mismatch: p and q differ in dimension."""
    if p.mean.shape != q.mean.shape:
        raise Mismatch(
            f"the two sides have {p.mean.shape[0]} and {q.mean.shape[0]} dimensions; they come from different layers or networks"
        )


def _require_held(one: float, other: float) -> None:
    """Refuse total variances whose product, which bounds the Gram matrix, float64 does not hold, if both sides have any."""
    if not (one <= 0 or other <= 0 or SMALLEST < one * other < LARGEST):
        raise StatisticsError(
            f"the total variances of both sides, {one:.3g} and {other:.3g}, have a product beyond float64; expected one between "
            f"{SMALLEST:g} and {LARGEST:g}. Multiply the features of both sides by the same number"
        )


def trace_of_root(p: Normal, q: Normal, rounding: float = SETTLED) -> Array:
    """tr √(Σ₁Σ₂), by the cheapest exact route that the shapes allow.

    The roots of the eigenvalues of one small Gram matrix; where squaring may have cost too many digits (the two are
    nearly singular), the singular values of C₁C₂ᵀ instead.

    Raises:
        StatisticsError: a covariance is not positive semidefinite, by far more than rounding.
    """
    xp = namespace_of(p.mean, q.mean)
    gram = gram_of_roots(p, q)
    if gram is not None and gram.shape[0]:
        values = xp.linalg.eigvalsh(gram.T)  # symmetric: the transpose is what LAPACK copies fastest
        if _rounding(values, xp) <= rounding * float(p.trace + q.trace):
            require_semidefinite(values, max(1e-4, 100 * p.threshold, 100 * q.threshold))
            return xp.sum(xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values))))
    return xp.sum(xp.linalg.svdvals(times_factor(p.factored().factor, q.factored().factor)))


def gram_of_roots(p: Normal, q: Normal) -> Array | None:
    """The smallest symmetric matrix at hand whose eigenvalues are those of Σ₁Σ₂ (but for zeros): C₁Σ₂C₁ᵀ or its twin.

    One factor is enough, of whichever side has it (or the smaller one); where none is known, one Cholesky
    decomposition. None where neither side has full rank, though both are known as (d, d).
    """
    if p.factor is None and (q.factor is not None or p.covariance is None):
        p, q = q, p
    if p.factor is not None and q.factor is not None:
        if p.factor.shape[0] > q.factor.shape[0]:
            p, q = q, p
        product = times_factor(p.factor, q.factor)
        return product @ product.T
    for one, other in ((p, q), (q, p)):
        upper = one.factor if one.factor is not None else one.cholesky()
        if upper is not None and other.covariance is not None:
            return times_factor(times_factor(other.covariance, upper).T, upper)
    return None


def _rounding(squares: Array, xp: Any) -> float:
    """What rounding in these eigenvalues may do to the sum of their roots.

    Each is off by about ε of the largest, without preference in sign: the roots of those above it err independently;
    those below are noise, whose roots add up.
    """
    error = 4 * DOUBLE * xp.max(xp.abs(squares))
    real = squares > error
    above = xp.where(
        real, error * (error / (4 * xp.where(real, squares, xp.ones_like(squares)))), xp.zeros_like(squares)
    )
    noise = float(xp.sum(xp.where(real, xp.zeros_like(squares), xp.ones_like(squares))))
    return float(xp.sum(above)) ** 0.5 + noise * float(error) ** 0.5
