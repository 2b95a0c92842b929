"""The squared Fréchet distance between two Gaussians, exact for singular covariances (Dowson & Landau 1982).

    d² = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂)

The last term is a nuclear norm: with Σ = CᵀC, tr √(Σ₁Σ₂) = ‖C₁C₂ᵀ‖_*. No square root of a matrix is ever formed and
nothing is added to a diagonal. Written on the Python array API: numpy, torch and JAX arrays alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from frechet.errors import Mismatch, TooFewImages

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
        xp = array_namespace(features)
        rows = xp.astype(features, xp.float64)
        mean = xp.mean(rows, axis=0)
        factor = (rows - mean) / (n - 1) ** 0.5
        return cls(mean, factor=factor) if n <= d else cls(mean, covariance=factor.T @ factor)

    @property
    def trace(self) -> Array:
        """tr Σ."""
        if self.factor is not None:
            return array_namespace(self.mean).sum(self.factor**2)
        return array_namespace(self.mean).linalg.trace(self.covariance)


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
    xp = array_namespace(p.mean, q.mean)
    gap = p.mean - q.mean
    return Terms(float(gap @ gap), float(p.trace + q.trace - 2 * trace_of_root(p, q, xp)))


def trace_of_root(p: Normal, q: Normal, xp: Any) -> Array:
    """tr √(Σ₁Σ₂), by the cheapest exact route that the shapes allow.

    Both factors thin: singular values of the k₁ x k₂ product. One thin: eigenvalues of C₁Σ₂C₁ᵀ (k₁ x k₁). Neither:
    Cholesky factors and the eigenvalues of a d x d matrix; a covariance without full rank is first given its thin factor.
    """
    if p.factor is not None and q.factor is not None:
        return xp.sum(xp.linalg.svdvals(p.factor @ q.factor.T))
    if p.factor is not None:
        return _root_of_eigenvalues(p.factor @ q.covariance @ p.factor.T, xp)
    if q.factor is not None:
        return _root_of_eigenvalues(q.factor @ p.covariance @ q.factor.T, xp)
    lower_p, lower_q = _cholesky(p, xp), _cholesky(q, xp)
    if lower_p is None:
        return trace_of_root(thin(p, xp), q if lower_q is not None else thin(q, xp), xp)
    if lower_q is None:
        return trace_of_root(p, thin(q, xp), xp)
    product = _product_of_triangles(lower_p, lower_q, xp)
    return _root_of_eigenvalues(product @ product.T, xp)


def thin(p: Normal, xp: Any) -> Normal:
    """The same Gaussian by a factor of as many rows as its covariance has rank.

    Eigenvalues below max(d ε, resolution) of the largest are rounding and are left out.
    """
    values, vectors = xp.linalg.eigh(p.covariance)
    kept = values > _threshold(p) * xp.max(xp.abs(values))
    return Normal(p.mean, factor=(vectors[:, kept] * xp.sqrt(values[kept])).T)


def _threshold(p: Normal) -> float:
    return max(p.mean.shape[0] * DOUBLE, p.resolution)


def _cholesky(p: Normal, xp: Any) -> Array | None:
    """The lower Cholesky factor, or None where the covariance has no full rank to working precision."""
    try:
        lower = xp.linalg.cholesky(p.covariance)
    except Exception:  # numpy's LinAlgError, torch's own: every library has another name for it
        return None
    pivots = xp.linalg.diagonal(lower) ** 2
    full = xp.min(pivots) > _threshold(p) * xp.max(xp.linalg.diagonal(p.covariance))
    return lower if bool(full) else None  # NaN pivots (JAX's way to say failure) are not full either


def _product_of_triangles(p: Array, q: Array, xp: Any, blocks: int = 8) -> Array:
    """pᵀ q for lower triangular p and q, at 40 % of the cost: block (i, j) needs only the rows below i and j."""
    size = -(-p.shape[0] // blocks)
    starts = range(0, p.shape[0], size)
    rows = [
        xp.concat([p[max(i, j) :, i : i + size].T @ q[max(i, j) :, j : j + size] for j in starts], axis=1)
        for i in starts
    ]
    return xp.concat(rows, axis=0)


def _root_of_eigenvalues(matrix: Array, xp: Any) -> Array:
    values = xp.linalg.eigvalsh(matrix)
    return xp.sum(xp.sqrt(xp.where(values > 0, values, xp.zeros_like(values))))
