"""The squared Fréchet distance between two Gaussians, exact for singular covariances (Dowson & Landau 1982).

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂)

The last term is a nuclear norm: with Σ = CᵀC, tr √(Σ₁Σ₂) = ‖C₁C₂ᵀ‖_*. No square root of a matrix is ever formed and
nothing is added to a diagonal. Written on the Python array API: numpy, torch and JAX arrays alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from frechet.errors import Mismatch, StatisticsError, TooFewImages

Array = Any
DOUBLE = 2.0**-52  # the distance between 1 and the next float64


@dataclass(frozen=True)
class Normal:
    """A Gaussian, its covariance known as a matrix or as a factor, float64.

    Attributes:
        mean: (d,).
        covariance: (d, d), or None where `factor` says it.
        factor: (k, d) with covariance = factorᵀ factor and k < d, or None.
        resolution: relative precision of the covariance, e.g. that of the dtype it was stored in.
    """

    mean: Array
    covariance: Array | None = None
    factor: Array | None = None
    resolution: float = DOUBLE

    @classmethod
    def of_features(cls, features: Array) -> Normal:
        """The Gaussian of (n, d) features, covariance divided by n - 1: a factor where that is the smaller.

        Raises:
            TooFewImages: n < 2.
        """
        n, d = features.shape
        if n < 2:
            raise TooFewImages(f"a covariance needs at least two images; got {n}")
        xp = namespace_of(features)
        rows = xp.astype(features, xp.float64)
        mean = xp.mean(rows, axis=0)
        centred = (rows - mean) / (n - 1) ** 0.5
        return cls(mean, factor=_without_null_row(centred)) if n <= d else cls(mean, covariance=centred.T @ centred)

    @property
    def trace(self) -> Array:
        """tr Σ."""
        if self.factor is not None:
            return namespace_of(self.mean).sum(self.factor**2)
        return namespace_of(self.mean).linalg.trace(self.covariance)


def namespace_of(*arrays: Array) -> Any:
    """The array API functions for these arrays.

    NumPy's and JAX's arrays name them themselves; array-api-compat does it for torch's (and for NumPy would load all of
    NumPy, a tenth of a second).
    """
    own = getattr(arrays[0], "__array_namespace__", None)
    if own is not None:
        return own()
    from array_api_compat import array_namespace

    return array_namespace(*arrays)


class Terms(NamedTuple):
    """The two parts of a squared Fréchet distance, in squared feature units."""

    mean: float
    covariance: float

    @property
    def total(self) -> float:
        """The distance."""
        return self.mean + self.covariance


def frechet_terms(p: Normal, q: Normal) -> Terms:
    """The squared Fréchet distance between p and q, as its two parts.

    Raises:
        Mismatch: they differ in dimension.
    """
    if p.mean.shape != q.mean.shape:
        raise Mismatch(
            f"the two sides have {p.mean.shape[0]} and {q.mean.shape[0]} dimensions; they come from different layers or networks"
        )
    gap = p.mean - q.mean
    return Terms(float(gap @ gap), float(p.trace + q.trace - 2 * trace_of_root(p, q)))


def trace_of_root(p: Normal, q: Normal) -> Array:
    """tr √(Σ₁Σ₂), by the cheapest exact route that the shapes allow.

    Where a factor is thin (fewer images than dimensions, or a singular covariance): the singular values of the small
    product C₁C₂ᵀ. Where both covariances have full rank: their Cholesky factors, and the eigenvalues of a d x d matrix.
    """
    xp = namespace_of(p.mean, q.mean)
    upper_p, upper_q = _cholesky(p, xp), _cholesky(q, xp)
    if upper_p is not None and upper_q is not None:
        product = _product_of_triangles(upper_p, upper_q, xp)
        values = xp.linalg.eigvalsh((product @ product.T).T)  # see _cholesky
        return xp.sum(xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values))))
    one = _thin(p, xp) if upper_p is None else upper_p
    other = _thin(q, xp) if upper_q is None else upper_q
    return xp.sum(xp.linalg.svdvals(one @ other.T))


def _thin(p: Normal, xp: Any) -> Array:
    """A factor of as many rows as the covariance has rank.

    Eigenvalues below max(d ε, resolution) of the largest are rounding and are left out.

    Raises:
        StatisticsError: the matrix is not positive semidefinite, by far more than rounding.
    """
    if p.factor is not None:
        return p.factor
    values, vectors = xp.linalg.eigh(p.covariance)
    if xp.min(values) < -max(1e-6, 100 * _threshold(p)) * xp.max(xp.abs(values)):
        raise StatisticsError("a covariance has negative variances in some directions: it was damaged or made wrongly")
    kept = values > _threshold(p) * xp.max(xp.abs(values))
    return (vectors[:, kept] * xp.sqrt(values[kept])).T


def _threshold(p: Normal) -> float:
    return max(p.mean.shape[0] * DOUBLE, p.resolution)


def _cholesky(p: Normal, xp: Any) -> Array | None:
    """The upper Cholesky factor, or None where the covariance has no full rank to working precision."""
    if p.covariance is None:
        return None
    try:
        # symmetric, so its transpose is the same matrix, laid out as LAPACK wants it: NumPy's copy runs along rows then
        upper = xp.linalg.cholesky(p.covariance.T).T
    except Exception:  # numpy's LinAlgError, torch's own: every library has another name for it
        return None
    pivots = xp.linalg.diagonal(upper) ** 2
    full = xp.min(pivots) > _threshold(p) * xp.max(xp.linalg.diagonal(p.covariance))
    return upper if bool(full) else None  # NaN pivots (JAX's way to say failure) are not full either


def _product_of_triangles(p: Array, q: Array, xp: Any, blocks: int = 8) -> Array:
    """p qᵀ for upper triangular p and q, at 40 % of the cost: block (i, j) needs only the columns beyond i and j."""
    size = -(-p.shape[0] // blocks)
    starts = range(0, p.shape[0], size)
    rows = [
        xp.concat([p[i : i + size, max(i, j) :] @ q[j : j + size, max(i, j) :].T for j in starts], axis=1)
        for i in starts
    ]
    return xp.concat(rows, axis=0)


def _without_null_row(centred: Array) -> Array:
    """The same scatter from n - 1 rows: a Householder reflection of (1, ..., 1), which centring made a null vector.

    Without it the root of a rounding error, 1e-8, would stand for a singular value that is exactly zero.
    """
    return centred[1:, :] - centred[0, :] / (centred.shape[0] ** 0.5 + 1)
