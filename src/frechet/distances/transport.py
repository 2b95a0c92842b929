"""Optimal transport between two Gaussians: what the Fréchet distance changes by when its images do.

Moving p onto q, Σ₁ is carried by the symmetric map T₁ = Σ₂^½ (Σ₂^½ Σ₁ Σ₂^½)^{+½} Σ₂^½ (Olkin & Pukelsheim 1982; ^+ is
the pseudo-inverse), and ∂d²/∂Σ₁ = I - T₁. With Σ = CᵀC and C₁C₂ᵀ = U S Vᵀ both maps are squares of thin matrices:

    T₁ = W₁ᵀW₁,  W₁ = S^{-½} Vᵀ C₂        T₂ = W₂ᵀW₂,  W₂ = S^{-½} Uᵀ C₁

so that one decomposition, of the smallest matrix at hand, gives distance, gradient, influence and error bars.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from frechet.distances.frechet import require_same_dims
from frechet.distances.gaussian import Array, Gaussian, get_namespace, machine_epsilon, matmul_factor_transpose

_MIN_RELATIVE_ROOT = 1e-4  # of the largest root: the square of one that is smaller is off by more than 1e-8 of itself


class Coupling(NamedTuple):
    """Both transport maps and what they have in common.

    Attributes:
        roots: (k,) the singular values of C₁C₂ᵀ, whose sum is tr √(Σ₁Σ₂); those that are rounding are 0.
        onto_q: (k, d) W₁: moves p onto q.
        onto_p: (k, d) W₂: moves q onto p.
    """

    roots: Array
    onto_q: Array
    onto_p: Array

    def swap(self) -> Coupling:
        """The same with p and q exchanged."""
        return Coupling(self.roots, self.onto_p, self.onto_q)


class InfluenceTerms(NamedTuple):
    """ψ of images: removing image i of n changes the squared distance by about -ψᵢ / (n - 1).

    Attributes:
        mean: (n,) through the difference of the means.
        covariance: (n,) through the covariances.
    """

    mean: Array
    covariance: Array

    @property
    def total(self) -> Array:
        """(n,) both."""
        return self.mean + self.covariance


def optimal_coupling(p: Gaussian, q: Gaussian) -> Coupling:
    """The transport between p and q, by the cheapest route that the shapes allow.

    Raises:
        Mismatch: they differ in dimension.
    """
    require_same_dims(p, q)
    if p.factor is None and q.factor is None:
        p = p.with_factor()
    if p.factor is None:
        return optimal_coupling(q, p).swap()
    if q.covariance is not None:
        return _coupling_from_eigenvalues(p.factor, q.covariance)
    if p.covariance is not None:
        return _coupling_from_eigenvalues(q.factor, p.covariance).swap()
    return _coupling_from_singular_values(p.factor, q.factor)


def optimal_coupling_from_factors(p: Gaussian, q: Gaussian) -> Coupling:
    """The same without squaring anything, for two Gaussians with factors."""
    return _coupling_from_singular_values(p.factor, q.factor)


def is_well_conditioned(coupling: Coupling) -> Array:
    """Whether roots of eigenvalues, where the coupling comes of such, keep half of float64's digits and more.

    A distance hardly feels the smallest roots, but a gradient does: where p has little spread, q may have much.
    """
    if not coupling.roots.shape[0]:
        return True
    xp = get_namespace(coupling.roots)
    return xp.min(coupling.roots) > _MIN_RELATIVE_ROOT * xp.max(coupling.roots)


def inverse_sums(values: Array) -> Array:
    """(k, k) 1 / (sᵢ + sⱼ) of (k,) values that are not negative; 0 where both are 0."""
    xp = get_namespace(values)
    sums = values[:, None] + values[None, :]
    return xp.where(sums > 0, 1 / xp.where(sums > 0, sums, xp.ones_like(sums)), xp.zeros_like(sums))


def squared_frechet_distance(p: Gaussian, q: Gaussian, coupling: Coupling) -> Array:
    """d², from the decomposition that the coupling holds already."""
    xp = get_namespace(p.mean)
    return xp.sum((p.mean - q.mean) ** 2) + p.trace + q.trace - 2 * xp.sum(coupling.roots)


def feature_gradient(features: Array, other_mean: Array, onto_other: Array) -> Array:
    """∂d²/∂features of the side that (n, d) features make, which the map `onto_other` carries: (n, d)."""
    n = features.shape[0]
    mean = get_namespace(features).mean(features, axis=0)
    centered = features - mean
    moved = (centered @ onto_other.T) @ onto_other
    return (2 / n) * (mean - other_mean) + (2 / (n - 1)) * (centered - moved)


def influence_function(rows: Array, p: Gaussian, q: Gaussian, coupling: Coupling) -> InfluenceTerms:
    """ψ of (k, d) rows of p's features.

    ψ(x) = 2 (μ₁-μ₂)·(x-μ₁) + (x-μ₁)ᵀ(I-T₁)(x-μ₁) - tr((I-T₁)Σ₁)
    """
    xp = get_namespace(rows)
    centered = rows - p.mean
    moved = centered @ coupling.onto_q.T
    spread = xp.sum(centered**2, axis=1) - xp.sum(moved**2, axis=1)
    return InfluenceTerms(2 * (centered @ (p.mean - q.mean)), spread - (p.trace - xp.sum(coupling.roots)))


class LeadingDirections(NamedTuple):
    """Where a squared distance lies: the axes along which p has to be moved most.

    Attributes:
        axes: (k, d) of length 1, the one that holds most first.
        shares: (k,) of d², what moving p along each adds to it. All axes together add up to d², less what q has in
            directions that p does not span at all (n < d).
    """

    axes: Array
    contributions: Array


def leading_directions(p: Gaussian, q: Gaussian, coupling: Coupling, count: int) -> LeadingDirections:
    """The eigenvectors of E (x - T(x))(x - T(x))ᵀ, x of p and T the transport onto q: (I-T)Σ₁(I-T) + (μ₁-μ₂)(μ₁-μ₂)ᵀ."""
    xp = get_namespace(p.mean)
    factor = p.with_factor().factor
    moved = factor - (factor @ coupling.onto_q.T) @ coupling.onto_q
    rows = xp.concat([moved, (p.mean - q.mean)[None, :]], axis=0)
    if rows.shape[0] < rows.shape[1]:
        squares, left = xp.linalg.eigh(rows @ rows.T)
        axes = left.T @ rows
    else:
        squares, vectors = xp.linalg.eigh(rows.T @ rows)
        axes = vectors.T
    axes, squares = xp.flip(axes, axis=0)[:count, :], xp.flip(squares, axis=0)[:count]
    lengths = xp.sqrt(xp.sum(axes**2, axis=1))
    real = lengths > 0
    return LeadingDirections(
        axes / xp.where(real, lengths, xp.ones_like(lengths))[:, None], xp.where(real, squares, 0 * squares)
    )


def _coupling_from_eigenvalues(factor: Array, covariance: Array) -> Coupling:
    """Of p's factor and q's covariance: C₁Σ₂C₁ᵀ = U S² Uᵀ, and Vᵀ C₂ = S⁻¹ Uᵀ C₁Σ₂."""
    xp = get_namespace(factor)
    if factor.shape[0] < factor.shape[1]:
        carried = factor @ covariance
        gram = carried @ factor.T
    else:
        carried = matmul_factor_transpose(covariance, factor).T
        gram = matmul_factor_transpose(carried, factor)
    squares, vectors = xp.linalg.eigh((gram + gram.T) / 2)
    roots, inverse = _roots_and_inverses(squares, factor.shape[0] * machine_epsilon(factor), xp)
    half = xp.sqrt(inverse)[:, None]
    return Coupling(
        roots,
        onto_q=half * inverse[:, None] * (vectors.T @ carried),
        onto_p=half * (vectors.T @ factor),
    )


def _coupling_from_singular_values(p: Array, q: Array) -> Coupling:
    """Of two factors, without squaring: C₁C₂ᵀ = U S Vᵀ."""
    xp = get_namespace(p)
    u, singular, vh = xp.linalg.svd(matmul_factor_transpose(p, q), full_matrices=False)
    roots, inverse = _roots_and_inverses(singular**2, (max(p.shape[0], q.shape[0]) * machine_epsilon(p)) ** 2, xp)
    half = xp.sqrt(inverse)[:, None]
    return Coupling(roots, onto_q=half * (vh @ q), onto_p=half * (u.T @ p))


def _roots_and_inverses(squares: Array, threshold: float, xp: Any) -> tuple[Array, Array]:
    """Roots of squares and their inverses, both 0 where a square is no more than rounding of the largest."""
    if not squares.shape[0]:  # a side without any spread
        return squares, squares
    real = squares > threshold * xp.max(squares)
    roots = xp.where(real, xp.sqrt(xp.where(real, squares, xp.ones_like(squares))), xp.zeros_like(squares))
    return roots, xp.where(real, 1 / xp.where(real, roots, xp.ones_like(roots)), xp.zeros_like(roots))
