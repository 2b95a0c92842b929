"""A permutation test of the hypothesis that two sets of images have the same distribution.

The statistic is the squared Fréchet distance to second order around the pooled Gaussian of both sets,

    t = |δμ|² + ½ Σᵢⱼ Δᵢⱼ² / (λᵢ + λⱼ),   Δ = Vᵀ (Σ₁ - Σ₂) V,   Σ = V diag(λ) Vᵀ,

so that one decomposition serves all permutations. A permutation test is exact for any statistic; its p-value is that of
Phipson & Smyth (2010). Because t underestimates the distance between small sets, distances are estimated by t times a
factor, which a few exactly computed distances determine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from frechet.distances.frechet import COARSE_TOLERANCE, frechet_terms
from frechet.distances.gaussian import Array, Gaussian, get_namespace, machine_epsilon
from frechet.distances.transport import inverse_sums

NUM_PERMUTATIONS = 39  # the smallest p-value is 1/40
NUM_EXACT_DISTANCES = 4  # permutations whose distance is computed exactly


class PermutationTestResult(NamedTuple):
    """Result of a permutation test.

    Attributes:
        p_value: p-value of the hypothesis of equal distributions, at least 1/40.
        mean: mean of the squared distances between permuted sets, in squared feature units.
        std: standard deviation of these distances, in squared feature units.
    """

    p_value: float
    mean: float
    std: float


class _PooledSample(NamedTuple):
    """Images of both sets, whitened by their pooled Gaussian, so that float32 is accurate enough.

    Attributes:
        rows: (n, d) float32 whitened rows; 0 along axes without variance.
        scatter: (d, d) float32 rowsᵀ rows.
        eigenvalues: (d,) float32 λ.
        weights: (d, d) float32 λᵢλⱼ / (λᵢ + λⱼ), the weight of Δᵢⱼ² for whitened rows.
    """

    rows: Float32[Array, "n d"]
    scatter: Float32[Array, "d d"]
    eigenvalues: Float32[Array, " d"]
    weights: Float32[Array, "d d"]

    def second_order_distance(self, indices: Int[np.ndarray, " m"]) -> float:
        """Compute the statistic t between the images with these indices and all others."""
        xp = get_namespace(self.rows)
        part = self.rows[indices, :]
        n, m = self.rows.shape[0], part.shape[0]
        rest, mean = n - m, xp.mean(part, axis=0)
        mean_difference = mean * (n / rest)  # the mean of the others is -mean m / rest
        squares = part.T @ part
        delta = squares * (1 / (m - 1) + 1 / (rest - 1)) - self.scatter / (rest - 1)
        delta = delta - (m / (m - 1) - m * m / (rest * (rest - 1))) * mean[:, None] * mean[None, :]
        return float(xp.sum(self.eigenvalues * mean_difference**2) + xp.sum(delta**2 * self.weights) / 2)


def permutation_test(
    p_rows: Float[Array, "n d"],
    q_rows: Float[Array, "m d"],
    *,
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> PermutationTestResult:
    """Test whether two sets of images have the same distribution, by 39 random permutations of the pooled images.

    Args:
        p_rows: (n, d) features of all images of the first set, n >= 2.
        q_rows: (m, d) features of all images of the second set, m >= 2.
        seed: seed of the permutations.
        on_step: called with (steps done, total steps).
    """
    rows = get_namespace(p_rows, q_rows).concat([p_rows, q_rows], axis=0)
    pool = _pool_features(rows)
    n, m = rows.shape[0], q_rows.shape[0]
    observed = pool.second_order_distance(np.arange(n - m, n))
    random = np.random.default_rng(seed)
    distances, exact = [], []
    for step in range(NUM_PERMUTATIONS):
        order = random.permutation(n)
        distances.append(pool.second_order_distance(order[:m]))
        if step < NUM_EXACT_DISTANCES:
            exact.append(
                frechet_terms(
                    _fit_gaussian(rows[order[:m], :]), _fit_gaussian(rows[order[m:], :]), tolerance=COARSE_TOLERANCE
                ).total
            )
        on_step(step + 1, NUM_PERMUTATIONS)
    n_as_extreme = sum(value >= observed for value in distances)
    scale = sum(exact) / sum(distances[:NUM_EXACT_DISTANCES]) if any(distances[:NUM_EXACT_DISTANCES]) else 1.0
    return PermutationTestResult(
        (1 + n_as_extreme) / (1 + NUM_PERMUTATIONS),
        scale * float(np.mean(distances)),
        scale * float(np.std(distances, ddof=1)),
    )


def _pool_features(rows: Float[Array, "n d"]) -> _PooledSample:
    xp = get_namespace(rows)
    rows = xp.astype(rows, xp.float64)
    rows = rows - xp.mean(rows, axis=0)
    eigenvalues, axes = xp.linalg.eigh(rows.T @ rows / (rows.shape[0] - 1))
    eigenvalues = xp.where(
        eigenvalues > machine_epsilon(rows) * xp.max(eigenvalues), eigenvalues, xp.zeros_like(eigenvalues)
    )
    units = xp.where(
        eigenvalues > 0,
        1 / xp.sqrt(xp.where(eigenvalues > 0, eigenvalues, xp.ones_like(eigenvalues))),
        xp.zeros_like(eigenvalues),
    )
    rows = xp.astype(rows @ (axes * units), xp.float32)
    weights = eigenvalues[:, None] * eigenvalues[None, :] * inverse_sums(eigenvalues)
    return _PooledSample(rows, rows.T @ rows, xp.astype(eigenvalues, xp.float32), xp.astype(weights, xp.float32))


def _fit_gaussian(rows: Float[Array, "n d"]) -> Gaussian:
    xp = get_namespace(rows)
    return Gaussian.from_features(xp.astype(rows, xp.float64))
