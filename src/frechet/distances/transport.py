"""Optimal transport between two Gaussians, and the gradient and influence function of their Fréchet distance.

The optimal transport from p to q is linear, with the symmetric matrix T₁ = Σ₂^½ (Σ₂^½ Σ₁ Σ₂^½)^{+½} Σ₂^½ (Olkin &
Pukelsheim 1982; ^+ is the pseudo-inverse), and ∂d²/∂Σ₁ = I - T₁. With Σ = CᵀC and C₁C₂ᵀ = U S Vᵀ, both maps are squares
of thin matrices:

    T₁ = W₁ᵀW₁,  W₁ = S^{-½} Vᵀ C₂        T₂ = W₂ᵀW₂,  W₂ = S^{-½} Uᵀ C₁

One decomposition of the smallest available matrix gives distance, gradient, influence function and standard error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float

from frechet.distances.frechet import require_same_dims
from frechet.distances.gaussian import Array, Gaussian, eigendecompose, get_namespace, machine_epsilon
from frechet.distances.triangular import matmul_factor, matmul_factor_transpose, symmetric_matmul_factor_transpose

_MIN_RELATIVE_ROOT = 1e-4  # of the largest root; the square of a smaller one has a relative error above 1e-8


class Coupling(NamedTuple):
    """Factors of both transport maps, and the singular values that they share.

    Attributes:
        roots: (k,) singular values of C₁C₂ᵀ, whose sum is tr √(Σ₁Σ₂); those below the rounding error are 0.
        onto_q: (k, d) W₁, the factor of the map from p to q.
        onto_p: (k, d) W₂, the factor of the map from q to p.
    """

    roots: Float[Array, " k"]
    onto_q: Float[Array, "k d"]
    onto_p: Float[Array, "k d"]

    def swap(self) -> Coupling:
        """Return the coupling with p and q exchanged."""
        return Coupling(self.roots, self.onto_p, self.onto_q)


class InfluenceTerms(NamedTuple):
    """The influence function ψ of images: removing image i of n changes the squared distance by about -ψᵢ / (n - 1).

    Attributes:
        mean: (n,) influence through the difference of the means, in squared feature units.
        covariance: (n,) influence through the covariances, in squared feature units.
    """

    mean: Float[Array, " n"]
    covariance: Float[Array, " n"]

    @property
    def total(self) -> Float[Array, " n"]:
        """(n,) sum of both terms."""
        return self.mean + self.covariance


def optimal_coupling(p: Gaussian, q: Gaussian) -> Coupling:
    """Compute the transport maps between two Gaussians by the cheapest route that the shapes allow.

    Args:
        p, q: Gaussians of the same dimension.

    Raises:
        MismatchError: the Gaussians have different dimensions.
        StatisticsError: a covariance that has to be decomposed has negative eigenvalues beyond rounding.
    """
    require_same_dims(p, q)
    if p.factor is None and q.factor is None:
        p = p.with_factor()
    if p.factor is None:
        return optimal_coupling(q, p).swap()
    if q.covariance is not None:
        return _coupling_from_eigenvalues(p.factor, q.covariance)
    assert q.factor is not None
    if p.covariance is not None:
        return _coupling_from_eigenvalues(q.factor, p.covariance).swap()
    return _coupling_from_singular_values(p.factor, q.factor)


def optimal_coupling_from_factors(p: Gaussian, q: Gaussian) -> Coupling:
    """Compute the transport maps from the singular values of C₁C₂ᵀ, which loses no digits by squaring.

    Args:
        p, q: Gaussians of the same dimension, both with a factor.
    """
    assert p.factor is not None
    assert q.factor is not None
    return _coupling_from_singular_values(p.factor, q.factor)


def is_well_conditioned(coupling: Coupling, min_relative_root: float = _MIN_RELATIVE_ROOT) -> Array:
    """Return whether roots of eigenvalues are accurate, by default to more than half the digits of float64.

    A distance hardly depends on the smallest roots, but a gradient does, because q may have much variance in directions
    where p has little.

    Args:
        coupling: the coupling, from eigenvalues.
        min_relative_root: smallest root that is accurate enough, relative to the largest.

    Returns:
        True or False, or a boolean scalar array.
    """
    if not coupling.roots.shape[0]:
        return True
    xp = get_namespace(coupling.roots)
    return xp.min(coupling.roots) > min_relative_root * xp.max(coupling.roots)


def inverse_sums(values: Float[Array, " k"]) -> Float[Array, "k k"]:
    """Compute the matrix 1 / (sᵢ + sⱼ) of non-negative values s (k,), with 0 where both are 0."""
    xp = get_namespace(values)
    sums = values[:, None] + values[None, :]
    return xp.where(sums > 0, 1 / xp.where(sums > 0, sums, xp.ones_like(sums)), xp.zeros_like(sums))


def squared_frechet_distance(p: Gaussian, q: Gaussian, coupling: Coupling) -> Float[Array, ""]:
    """Compute the squared Fréchet distance between p and q from their coupling."""
    xp = get_namespace(p.mean)
    return xp.sum((p.mean - q.mean) ** 2) + p.trace + q.trace - 2 * xp.sum(coupling.roots)


def feature_gradient(
    features: Float[Array, "n d"], other_mean: Float[Array, " d"], onto_other: Float[Array, "k d"]
) -> Float[Array, "n d"]:
    """Compute the gradient of the squared Fréchet distance with respect to features.

    ∂d²/∂xᵢ = (2/n) (μ₁ - μ₂) + (2/(n-1)) (I - T₁)(xᵢ - μ₁), with T₁ = WᵀW.

    Args:
        features: (n, d) features whose Gaussian is compared, n >= 2.
        other_mean: (d,) mean of the other Gaussian.
        onto_other: (k, d) factor W of the map from the Gaussian of the features to the other one.
    """
    n = features.shape[0]
    mean = get_namespace(features).mean(features, axis=0)
    centered = features - mean
    moved = (centered @ onto_other.T) @ onto_other
    return (2 / n) * (mean - other_mean) + (2 / (n - 1)) * (centered - moved)


def influence_function(rows: Float[Array, "n d"], p: Gaussian, q: Gaussian, coupling: Coupling) -> InfluenceTerms:
    """Compute the influence function ψ of the squared Fréchet distance.

    ψ(x) = 2 (μ₁-μ₂)·(x-μ₁) + (x-μ₁)ᵀ(I-T₁)(x-μ₁) - tr((I-T₁)Σ₁)

    Args:
        rows: (n, d) features of images of p.
        p, q: Gaussians of the same dimension.
        coupling: the coupling of p and q.
    """
    xp = get_namespace(rows)
    centered = rows - p.mean
    moved = centered @ coupling.onto_q.T
    spread = xp.sum(centered**2, axis=1) - xp.sum(moved**2, axis=1)
    return InfluenceTerms(2 * (centered @ (p.mean - q.mean)), spread - (p.trace - xp.sum(coupling.roots)))


class LeadingDirections(NamedTuple):
    """Directions in feature space that contribute most to a squared Fréchet distance.

    Attributes:
        axes: (k, d) unit vectors, largest contribution first.
        contributions: (k,) contributions to d², in squared feature units. Those of all d axes add up to d², less the
            variance of q in directions that p does not span (n < d).
    """

    axes: Float[Array, "k d"]
    contributions: Float[Array, " k"]


def leading_directions(p: Gaussian, q: Gaussian, coupling: Coupling, count: int) -> LeadingDirections:
    """Compute the directions along which the optimal transport moves p furthest.

    They are the leading eigenvectors of E (x - T(x))(x - T(x))ᵀ = (I-T₁)Σ₁(I-T₁) + (μ₁-μ₂)(μ₁-μ₂)ᵀ, where x is drawn from
    p and T is the transport to q.

    Args:
        p, q: Gaussians of the same dimension.
        coupling: the coupling of p and q.
        count: number of directions.
    """
    xp = get_namespace(p.mean)
    factor = p.with_factor().factor
    moved = factor - (factor @ coupling.onto_q.T) @ coupling.onto_q
    rows = xp.concat([moved, (p.mean - q.mean)[None, :]], axis=0)
    if rows.shape[0] < rows.shape[1]:
        squares, left = eigendecompose(rows @ rows.T)
        axes = left.T @ rows
    else:
        squares, vectors = eigendecompose(rows.T @ rows)
        axes = vectors.T
    axes, squares = xp.flip(axes, axis=0)[:count, :], xp.flip(squares, axis=0)[:count]
    lengths = xp.sqrt(xp.sum(axes**2, axis=1))
    real = lengths > 0
    return LeadingDirections(
        axes / xp.where(real, lengths, xp.ones_like(lengths))[:, None], xp.where(real, squares, 0 * squares)
    )


def _coupling_from_eigenvalues(factor: Float[Array, "r d"], covariance: Float[Array, "d d"]) -> Coupling:
    """Compute the coupling from p's factor and q's covariance: C₁Σ₂C₁ᵀ = U S² Uᵀ and Vᵀ C₂ = S⁻¹ Uᵀ C₁Σ₂."""
    xp = get_namespace(factor)
    carried = matmul_factor_transpose(covariance, factor).T
    gram = symmetric_matmul_factor_transpose(carried, factor)
    squares, vectors = eigendecompose(gram.T)  # LAPACK copies the transpose of a symmetric matrix fastest
    roots, inverse = _roots_and_inverses(squares, factor.shape[0] * machine_epsilon(factor), xp)
    half = xp.sqrt(inverse)[:, None]
    return Coupling(
        roots,
        onto_q=half * inverse[:, None] * (vectors.T @ carried),
        onto_p=half * matmul_factor(vectors.T, factor),
    )


def _coupling_from_singular_values(p_factor: Float[Array, "r d"], q_factor: Float[Array, "s d"]) -> Coupling:
    """Compute the coupling from two factors: C₁C₂ᵀ = U S Vᵀ."""
    xp = get_namespace(p_factor)
    u, singular, vh = xp.linalg.svd(matmul_factor_transpose(p_factor, q_factor), full_matrices=False)
    threshold = (max(p_factor.shape[0], q_factor.shape[0]) * machine_epsilon(p_factor)) ** 2
    roots, inverse = _roots_and_inverses(singular**2, threshold, xp)
    half = xp.sqrt(inverse)[:, None]
    return Coupling(roots, onto_q=half * (vh @ q_factor), onto_p=half * (u.T @ p_factor))


def _roots_and_inverses(
    squares: Float[Array, " k"], threshold: float, xp: Any
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Compute roots of squares and their inverses, both 0 for squares of at most the threshold times the largest."""
    if not squares.shape[0]:  # a Gaussian without any variance
        return squares, squares
    real = squares > threshold * xp.max(squares)
    roots = xp.where(real, xp.sqrt(xp.where(real, squares, xp.ones_like(squares))), xp.zeros_like(squares))
    return roots, xp.where(real, 1 / xp.where(real, roots, xp.ones_like(roots)), xp.zeros_like(roots))
