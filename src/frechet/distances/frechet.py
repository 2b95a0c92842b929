"""The squared Fréchet distance between two Gaussians, exact also for singular covariances (Dowson & Landau 1982).

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂)

The last term is a nuclear norm: with Σ = CᵀC, tr √(Σ₁Σ₂) = ‖C₁C₂ᵀ‖_*. The square root of a matrix is never formed, and
nothing is added to a diagonal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float

from frechet.distances.gaussian import (
    FLOAT64_EPS,
    Array,
    Gaussian,
    get_namespace,
    require_semidefinite,
)
from frechet.distances.triangular import matmul_factor_transpose
from frechet.errors import MismatchError, StatisticsError

DEFAULT_TOLERANCE = 1e-10  # largest rounding error of the fast route, relative to tr Σ₁ + tr Σ₂
COARSE_TOLERANCE = 1e-8  # the same for distances that are only averaged, to estimate a bias or an error
MAX_MEAN_DIFFERENCE = 1e150
MIN_TRACE_PRODUCT, MAX_TRACE_PRODUCT = 1e-280, 1e300  # products of variances within float64, with room for rounding


class FrechetTerms(NamedTuple):
    """The two terms of a squared Fréchet distance, in squared feature units.

    Attributes:
        mean: |μ₁ - μ₂|².
        covariance: tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂).
    """

    mean: float
    covariance: float

    @property
    def total(self) -> float:
        """The squared distance."""
        return self.mean + self.covariance


def frechet_terms(p: Gaussian, q: Gaussian, *, tolerance: float = DEFAULT_TOLERANCE) -> FrechetTerms:
    """Compute the squared Fréchet distance between two Gaussians.

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂)   (Dowson & Landau 1982)

    Args:
        p, q: Gaussians of the same dimension d.
        tolerance: largest accepted rounding error, relative to tr Σ₁ + tr Σ₂, by a conservative estimate.

    Returns:
        The two terms of the distance, in squared feature units; zero for equal Gaussians up to rounding.

    Raises:
        MismatchError: the Gaussians have different dimensions.
        StatisticsError: the product of the variances or the square of the means' difference exceeds the range of float64, or
            a covariance is not positive semidefinite.
    """
    require_same_dims(p, q)
    _require_float64_range(float(p.trace), float(q.trace))
    mean_difference, traces = p.mean - q.mean, p.trace + q.trace
    _require_squares_in_range(mean_difference)
    covariance_term = float(traces - 2 * trace_sqrt_product(p, q, tolerance))
    return FrechetTerms(
        float(mean_difference @ mean_difference),
        0.0 if -tolerance * float(traces) < covariance_term < 0 else covariance_term,
    )


def require_same_dims(p: Gaussian, q: Gaussian) -> None:
    """Check that two Gaussians have the same dimension.

    Raises:
        MismatchError: they do not.
    """
    if p.mean.shape != q.mean.shape:
        raise MismatchError(
            f"the two inputs have {p.mean.shape[0]} and {q.mean.shape[0]} dimensions; expected features of the same "
            "layer and network"
        )


def _require_float64_range(p_trace: float, q_trace: float) -> None:
    """Check that the product of two total variances, which bounds the Gram matrix, is within the range of float64.

    Raises:
        StatisticsError: the product is too large, too small or NaN; variances of zero are accepted.
    """
    if not (p_trace <= 0 or q_trace <= 0 or MIN_TRACE_PRODUCT < p_trace * q_trace < MAX_TRACE_PRODUCT):
        raise StatisticsError(
            f"the total variances of the two inputs, {p_trace:.3g} and {q_trace:.3g}, have a product beyond float64; "
            f"expected a product between {MIN_TRACE_PRODUCT:g} and {MAX_TRACE_PRODUCT:g}. Multiply the features of both inputs "
            "by the same number."
        )


def _require_squares_in_range(mean_difference: Float[Array, " d"]) -> None:
    """Check that the squared length of the difference of two means is within the range of float64.

    Raises:
        StatisticsError: it is too large or NaN.
    """
    xp = get_namespace(mean_difference)
    largest = float(xp.max(xp.abs(mean_difference)))
    if not largest < MAX_MEAN_DIFFERENCE:
        raise StatisticsError(
            f"the means of the two inputs differ by up to {largest:.3g}, whose square is beyond float64; expected less than "
            f"{MAX_MEAN_DIFFERENCE:g}. Multiply the features of both inputs by the same number."
        )


def trace_sqrt_product(p: Gaussian, q: Gaussian, tolerance: float = DEFAULT_TOLERANCE) -> Float[Array, ""]:
    """Compute tr √(Σ₁Σ₂) = ‖C₁C₂ᵀ‖_* by the cheapest exact route that the shapes allow.

    The result is the sum of the roots of the eigenvalues of one small Gram matrix. If squaring may have lost too many
    digits (nearly singular covariances), the singular values of C₁C₂ᵀ are computed instead.

    Args:
        p, q: Gaussians of the same dimension.
        tolerance: largest accepted rounding error of the fast route, relative to tr Σ₁ + tr Σ₂.

    Raises:
        StatisticsError: a covariance has negative eigenvalues beyond rounding.
    """
    xp = get_namespace(p.mean, q.mean)
    gram = product_gram_matrix(p, q)
    if gram is not None and gram.shape[0]:
        values = xp.linalg.eigvalsh(gram.T)  # LAPACK copies the transpose of a symmetric matrix fastest
        if _root_rounding_error(values, xp) <= tolerance * float(p.trace + q.trace):
            require_semidefinite(values, max(1e-4, 100 * p.rank_tolerance, 100 * q.rank_tolerance))
            return xp.sum(xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values))))
    return xp.sum(xp.linalg.svdvals(matmul_factor_transpose(p.with_factor().factor, q.with_factor().factor)))


def product_gram_matrix(p: Gaussian, q: Gaussian) -> Float[Array, "k k"] | None:
    """Compute the smallest available symmetric matrix whose eigenvalues are those of Σ₁Σ₂, up to zeros.

    With one factor this is C₁Σ₂C₁ᵀ or C₂Σ₁C₂ᵀ, where the smaller factor is taken; with two, (C₁C₂ᵀ)(C₁C₂ᵀ)ᵀ; with none,
    one covariance is decomposed by Cholesky.

    Returns:
        The matrix, or None if both Gaussians are known by a singular covariance alone.
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


def _root_rounding_error(squares: Float[Array, " k"], xp: Any) -> float:
    """Estimate the rounding error of the sum of the roots of eigenvalues.

    The error of each eigenvalue is about ε times the largest, with random sign. Roots of eigenvalues above that error
    vary independently; those below are noise, and their roots add up.
    """
    error = 4 * FLOAT64_EPS * xp.max(xp.abs(squares))
    real = squares > error
    above = xp.where(
        real, error * (error / (4 * xp.where(real, squares, xp.ones_like(squares)))), xp.zeros_like(squares)
    )
    noise = float(xp.sum(xp.where(real, xp.zeros_like(squares), xp.ones_like(squares))))
    return float(xp.sum(above)) ** 0.5 + noise * float(error) ** 0.5
