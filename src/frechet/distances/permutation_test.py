"""Whether two sets of images may be of one distribution, by permutation; and how far apart parts of one set lie.

The statistic is the squared Fréchet distance to second order about the Gaussian of both sets together,

    t = |δμ|² + ½ Σᵢⱼ Δᵢⱼ² / (λᵢ + λⱼ),   Δ = Vᵀ (Σ₁ - Σ₂) V,   Σ = V diag(λ) Vᵀ,

so that one decomposition serves all permutations. A permutation test is exact for any statistic (Phipson & Smyth 2010, for its
p-value); since parts of few images lie further apart than t says, t is scaled by a few distances that are computed in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from frechet.distances.frechet import COARSE_TOLERANCE, frechet_terms
from frechet.distances.gaussian import Array, Gaussian, get_namespace, machine_epsilon
from frechet.distances.transport import inverse_sums

NUM_PERMUTATIONS = 39  # the smallest p-value is 1/40
NUM_EXACT_DISTANCES = 4  # of them, whose distance is computed in full


class PermutationTestResult(NamedTuple):
    """What permutations of the images between both sides say.

    Attributes:
        p_value: of both sides having one distribution; 1/40 at least.
        mean, deviation: of the squared distances between the permuted sides, in squared feature units.
    """

    p_value: float
    mean: float
    std: float


class _PooledSample(NamedTuple):
    """All images, along the axes of their common Gaussian and in units of its deviations, so that single precision is enough.

    Attributes:
        rows: (n, d) float32, centred; 0 along axes without any spread.
        scatter: (d, d) float32 rowsᵀ rows.
        spread: (d,) float32 λ.
        weights: (d, d) float32 λᵢλⱼ / (λᵢ + λⱼ): what Δᵢⱼ² counts in these units.
    """

    rows: Array
    scatter: Array
    eigenvalues: Array
    weights: Array

    def second_order_distance(self, chosen: np.ndarray) -> float:
        """t of the chosen images and all others."""
        xp = get_namespace(self.rows)
        part = self.rows[chosen, :]
        n, m = self.rows.shape[0], part.shape[0]
        rest, mean = n - m, xp.mean(part, axis=0)
        mean_difference = mean * (n / rest)  # the others' mean is -mean m / rest
        squares = part.T @ part
        delta = squares * (1 / (m - 1) + 1 / (rest - 1)) - self.scatter / (rest - 1)
        delta = delta - (m / (m - 1) - m * m / (rest * (rest - 1))) * mean[:, None] * mean[None, :]
        return float(xp.sum(self.eigenvalues * mean_difference**2) + xp.sum(delta**2 * self.weights) / 2)


def permutation_test(
    p_rows: Array, q_rows: Array, *, seed: int = 0, on_step: Callable[[int, int], None] = lambda *_: None
) -> PermutationTestResult:
    """Compare two sets with random partitions of both together.

    Args:
        p_rows, q_rows: (n, d) and (m, d) features of all images of either side.
        seed: of the permutations.
        done: called with (steps done, steps in all).
    """
    rows = get_namespace(p_rows, q_rows).concat([p_rows, q_rows], axis=0)
    pool = _pool_features(rows)
    n, m = rows.shape[0], q_rows.shape[0]
    observed = pool.second_order_distance(np.arange(n - m, n))
    random = np.random.default_rng(seed)
    found, exact = [], []
    for step in range(NUM_PERMUTATIONS):
        order = random.permutation(n)
        found.append(pool.second_order_distance(order[:m]))
        if step < NUM_EXACT_DISTANCES:
            exact.append(
                frechet_terms(
                    _fit_gaussian(rows[order[:m], :]), _fit_gaussian(rows[order[m:], :]), tolerance=COARSE_TOLERANCE
                ).total
            )
        on_step(step + 1, NUM_PERMUTATIONS)
    n_as_extreme = sum(value >= observed for value in found)
    scale = sum(exact) / sum(found[:NUM_EXACT_DISTANCES]) if any(found[:NUM_EXACT_DISTANCES]) else 1.0
    return PermutationTestResult(
        (1 + n_as_extreme) / (1 + NUM_PERMUTATIONS), scale * float(np.mean(found)), scale * float(np.std(found, ddof=1))
    )


def _pool_features(rows: Array) -> _PooledSample:
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


def _fit_gaussian(rows: Array) -> Gaussian:
    xp = get_namespace(rows)
    return Gaussian.from_features(xp.astype(rows, xp.float64))
