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

from frechet.distances.frechet import ROUGH, frechet_terms
from frechet.distances.gaussian import Array, Normal, namespace_of, rounding_of
from frechet.distances.transport import inverse_sums

PERMUTATIONS = 39  # the smallest p-value is 1/40
IN_FULL = 4  # of them, whose distance is computed in full


class Equality(NamedTuple):
    """What permutations of the images between both sides say.

    Attributes:
        p_value: of both sides having one distribution; 1/40 at least.
        mean, deviation: of the squared distances between the permuted sides, in squared feature units.
    """

    p_value: float
    mean: float
    deviation: float


class _Pool(NamedTuple):
    """All images, along the axes of their common Gaussian and in units of its deviations, so that single precision is enough.

    Attributes:
        rows: (n, d) float32, centred; 0 along axes without any spread.
        scatter: (d, d) float32 rowsᵀ rows.
        spread: (d,) float32 λ.
        weights: (d, d) float32 λᵢλⱼ / (λᵢ + λⱼ): what Δᵢⱼ² counts in these units.
    """

    rows: Array
    scatter: Array
    spread: Array
    weights: Array

    def second_order(self, chosen: np.ndarray) -> float:
        """t of the chosen images and all others."""
        xp = namespace_of(self.rows)
        part = self.rows[chosen, :]
        n, m = self.rows.shape[0], part.shape[0]
        rest, mean = n - m, xp.mean(part, axis=0)
        gap = mean * (n / rest)  # the others' mean is -mean m / rest
        squares = part.T @ part
        delta = squares * (1 / (m - 1) + 1 / (rest - 1)) - self.scatter / (rest - 1)
        delta = delta - (m / (m - 1) - m * m / (rest * (rest - 1))) * mean[:, None] * mean[None, :]
        return float(xp.sum(self.spread * gap**2) + xp.sum(delta**2 * self.weights) / 2)


def permutation_test(
    p_rows: Array, q_rows: Array, *, seed: int = 0, done: Callable[[int, int], None] = lambda *_: None
) -> Equality:
    """Compare two sets with random partitions of both together.

    Args:
        p_rows, q_rows: (n, d) and (m, d) features of all images of either side.
        seed: of the permutations.
        done: called with (steps done, steps in all).
    """
    rows = namespace_of(p_rows, q_rows).concat([p_rows, q_rows], axis=0)
    pool = _pooled(rows)
    n, m = rows.shape[0], q_rows.shape[0]
    observed = pool.second_order(np.arange(n - m, n))
    random = np.random.default_rng(seed)
    found, in_full = [], []
    for step in range(PERMUTATIONS):
        order = random.permutation(n)
        found.append(pool.second_order(order[:m]))
        if step < IN_FULL:
            in_full.append(
                frechet_terms(_normal(rows[order[:m], :]), _normal(rows[order[m:], :]), rounding=ROUGH).total
            )
        done(step + 1, PERMUTATIONS)
    further = sum(value >= observed for value in found)
    scale = sum(in_full) / sum(found[:IN_FULL]) if any(found[:IN_FULL]) else 1.0
    return Equality(
        (1 + further) / (1 + PERMUTATIONS), scale * float(np.mean(found)), scale * float(np.std(found, ddof=1))
    )


def _pooled(rows: Array) -> _Pool:
    xp = namespace_of(rows)
    rows = xp.astype(rows, xp.float64)
    rows = rows - xp.mean(rows, axis=0)
    spread, axes = xp.linalg.eigh(rows.T @ rows / (rows.shape[0] - 1))
    spread = xp.where(spread > rounding_of(rows) * xp.max(spread), spread, xp.zeros_like(spread))
    units = xp.where(spread > 0, 1 / xp.sqrt(xp.where(spread > 0, spread, xp.ones_like(spread))), xp.zeros_like(spread))
    rows = xp.astype(rows @ (axes * units), xp.float32)
    weights = spread[:, None] * spread[None, :] * inverse_sums(spread)
    return _Pool(rows, rows.T @ rows, xp.astype(spread, xp.float32), xp.astype(weights, xp.float32))


def _normal(rows: Array) -> Normal:
    xp = namespace_of(rows)
    return Normal.of_features(xp.astype(rows, xp.float64))
