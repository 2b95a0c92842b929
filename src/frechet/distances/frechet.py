"""The squared Fréchet distance between two Gaussians, exact for singular covariances (Dowson & Landau 1982).

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂)

The last term is a nuclear norm: with Σ = CᵀC, tr √(Σ₁Σ₂) = ‖C₁C₂ᵀ‖_*. No square root of a matrix is ever formed and
nothing is added to a diagonal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from frechet.distances.gaussian import (
    FLOAT64_EPS,
    Array,
    Gaussian,
    get_namespace,
    matmul_factor_transpose,
    require_semidefinite,
)
from frechet.errors import MismatchError, StatisticsError

DEFAULT_TOLERANCE = 1e-10  # the rounding that the fast route may bring, relative to tr Σ₁ + tr Σ₂
MIN_TRACE_PRODUCT, MAX_TRACE_PRODUCT = 1e-280, 1e300  # products of variances that leave room for rounding in float64
COARSE_TOLERANCE = 1e-8  # where distances are only averaged, to learn how far one of them may be from the truth


class FrechetTerms(NamedTuple):
    """The two parts of a squared Fréchet distance, in squared feature units."""

    mean: float
    covariance: float

    @property
    def total(self) -> float:
        """The distance."""
        return self.mean + self.covariance


def frechet_terms(p: Gaussian, q: Gaussian, *, tolerance: float = DEFAULT_TOLERANCE) -> FrechetTerms:
    """The squared Fréchet distance between p and q, as its two parts.

    Args:
        p, q: of the same dimension.
        rounding: what is allowed of it, relative to tr Σ₁ + tr Σ₂, by an estimate that is far on the safe side.

    Raises:
        Mismatch: they differ in dimension.
        StatisticsError: their variances are so small or large that products of them leave float64.
    """
    require_same_dims(p, q)
    _require_float64_range(float(p.trace), float(q.trace))
    mean_difference, traces = p.mean - q.mean, p.trace + q.trace
    covariance_term = float(traces - 2 * trace_sqrt_product(p, q, tolerance))
    return FrechetTerms(
        float(mean_difference @ mean_difference),
        0.0 if -tolerance * float(traces) < covariance_term < 0 else covariance_term,
    )


def require_same_dims(p: Gaussian, q: Gaussian) -> None:
    """Raises: Mismatch: p and q differ in dimension."""
    if p.mean.shape != q.mean.shape:
        raise MismatchError(
            f"the two sides have {p.mean.shape[0]} and {q.mean.shape[0]} dimensions; they come from different layers or networks"
        )


def _require_float64_range(one: float, other: float) -> None:
    """Refuse total variances whose product, which bounds the Gram matrix, float64 does not hold, if both sides have any."""
    if not (one <= 0 or other <= 0 or MIN_TRACE_PRODUCT < one * other < MAX_TRACE_PRODUCT):
        raise StatisticsError(
            f"the total variances of both sides, {one:.3g} and {other:.3g}, have a product beyond float64; expected one between "
            f"{MIN_TRACE_PRODUCT:g} and {MAX_TRACE_PRODUCT:g}. Multiply the features of both sides by the same number"
        )


def trace_sqrt_product(p: Gaussian, q: Gaussian, tolerance: float = DEFAULT_TOLERANCE) -> Array:
    """tr √(Σ₁Σ₂), by the cheapest exact route that the shapes allow.

    The roots of the eigenvalues of one small Gram matrix; where squaring may have cost too many digits (the two are
    nearly singular), the singular values of C₁C₂ᵀ instead.

    Raises:
        StatisticsError: a covariance is not positive semidefinite, by far more than rounding.
    """
    xp = get_namespace(p.mean, q.mean)
    gram = product_gram_matrix(p, q)
    if gram is not None and gram.shape[0]:
        values = xp.linalg.eigvalsh(gram.T)  # symmetric: the transpose is what LAPACK copies fastest
        if _root_rounding_error(values, xp) <= tolerance * float(p.trace + q.trace):
            require_semidefinite(values, max(1e-4, 100 * p.rank_tolerance, 100 * q.rank_tolerance))
            return xp.sum(xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values))))
    return xp.sum(xp.linalg.svdvals(matmul_factor_transpose(p.with_factor().factor, q.with_factor().factor)))


def product_gram_matrix(p: Gaussian, q: Gaussian) -> Array | None:
    """The smallest symmetric matrix at hand whose eigenvalues are those of Σ₁Σ₂ (but for zeros): C₁Σ₂C₁ᵀ or its twin.

    One factor is enough, of whichever side has it (or the smaller one); where none is known, one Cholesky
    decomposition. None where neither side has full rank, though both are known as (d, d).
    """
    if p.factor is None and (q.factor is not None or p.covariance is None):
        p, q = q, p
    if p.factor is not None and q.factor is not None:
        if p.factor.shape[0] > q.factor.shape[0]:
            p, q = q, p
        product = matmul_factor_transpose(p.factor, q.factor)
        return product @ product.T
    for one, other in ((p, q), (q, p)):
        upper = one.factor if one.factor is not None else one.cholesky()
        if upper is not None and other.covariance is not None:
            return matmul_factor_transpose(matmul_factor_transpose(other.covariance, upper).T, upper)
    return None


def _root_rounding_error(squares: Array, xp: Any) -> float:
    """What rounding in these eigenvalues may do to the sum of their roots.

    Each is off by about ε of the largest, without preference in sign: the roots of those above it err independently;
    those below are noise, whose roots add up.
    """
    error = 4 * FLOAT64_EPS * xp.max(xp.abs(squares))
    real = squares > error
    above = xp.where(
        real, error * (error / (4 * xp.where(real, squares, xp.ones_like(squares)))), xp.zeros_like(squares)
    )
    noise = float(xp.sum(xp.where(real, xp.zeros_like(squares), xp.ones_like(squares))))
    return float(xp.sum(above)) ** 0.5 + noise * float(error) ** 0.5
